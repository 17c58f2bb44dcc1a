# Installs files whole or not at all: everything is written beside its place, validated, and only then renamed (hazard 42).
# Arguments, in groups:
#   d PATH OWNER MODE        a directory, made where it is absent and left alone where it is there
#   f PATH OWNER MODE BYTES  a file; its content is the next BYTES of standard input
#   u PATH OWNER MODE BYTES  such a file of the service manager, after all that it relies on; the manager reads it at the very end
#   l PATH TARGET            a symbolic link, switched in one rename; a PATH.* that no link shows goes, where it is of the same kind
#   check POSTGRES FILE      FILE is a postgresql.conf, which this server binary must be able to read
#   move FROM TO             at the very end: a finished directory gets its name; TO must be absent or empty
# Processes are what costs time here: one program serves all files wherever it can.
set -u
umask 077
new=.pgstead-new
line='
'
sizes='' owners='' units='' left=0
each() { # FUNCTION, arguments: calls FUNCTION with one group after the other
  pass=$1
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      d) "$pass" "$1" "$2" "$3" "$4"; shift 4 ;;
      f | u) "$pass" "$1" "$2" "$3" "$4" "$5"; shift 5 ;;
      l | check | move) "$pass" "$1" "$2" "$3"; shift 3 ;;
      *) echo "unknown word: $1" >&2; exit 64 ;;
    esac
  done
}
write() {
  case $1 in
    d) [ -d "$2" ] || { mkdir -p -m "$4" -- "$2"; chown -- "$3" "$2"; } ;;
    f | u)
      if [ -e "$2$new" ] || [ -L "$2$new" ]; then rm -f -- "$2$new"; fi
      # The file is made with its mode, so that it is never more open than at the end.
      case $4 in 0600) umask 177 ;; 0640) umask 137 ;; 0644) umask 133 ;; esac
      # Only a file that is not there is opened: a link that someone puts there meanwhile leads nowhere.
      set -C
      head -c "$5" >"$2$new"
      set +C
      umask 077
      case $4 in 0600 | 0640 | 0644) ;; *) chmod -- "$4" "$2$new" ;; esac
      sizes=$sizes$5$line
      if [ "$1" = u ]; then units=1; else left=$((left + 1)); fi
      case $line$owners in *"$line$3$line"*) ;; *) owners=$owners$3$line ;; esac ;;
    l) rm -f -- "$2$new"; ln -s -- "$3" "$2$new" ;;
    move) [ ! -e "$3" ] || [ -z "$(ls -A "$3")" ] || { echo "$3 is not empty" >&2; exit 73; } ;;
  esac
}
# A power cut may have left a directory of an earlier run that no link ever showed, with half of a private key in it.
# What has the name of a file that its successor brings goes, and then the directory, if nothing else is in it.
abandoned() {
  [ "$1" = l ] || return 0
  shown=$(readlink -- "$2") || shown=$3
  for old in "$2".*; do
    case ${old##*/} in "$3" | "${shown##*/}") continue ;; esac
    [ -d "$old" ] && [ ! -L "$old" ] || continue
    for file in "${2%/*}/$3"/*"$new"; do
      file=$old/${file##*/}
      rm -f -- "$file" "${file%"$new"}"
    done
    rmdir -- "$old" 2>/dev/null || :
  done
}
written() { case $1 in f | u) printf '%s\0' "$2$new" ;; esac; }
written_for_owner() { [ "$3" != "$owner" ] || written "$@"; }
leftover() { case $1 in f | u | l) printf '%s\0' "$2$new" ;; check) printf '%s\0' "$3.pgstead-check" ;; esac; }
directory() { # The directories of all groups; neighbours are told once.
  case $1 in d | f | u | l) ;; *) return 0 ;; esac
  parent=${2%/*}
  [ "${told-}" = "${parent:-/}" ] || printf '%s\0' "${parent:-/}"
  told=${parent:-/}
}
# Where the operator's file includes ours, a copy of it that includes the new one is read instead.
check() {
  [ "$1" = check ] || return 0
  if [ -e "${3%/*}/pgstead.conf$new" ]; then
    rm -f -- "$3.pgstead-check"
    sed "s/^include 'pgstead.conf'\$/include 'pgstead.conf$new'/" "$3$new" >"$3.pgstead-check"
    "$2" -C port -D "${3%/*}" -c config_file="$3.pgstead-check" >/dev/null
    rm -f -- "$3.pgstead-check"
  else
    "$2" -C port -D "${3%/*}" -c config_file="$3$new" >/dev/null
  fi
}
# What a rename relies on is on disk before it: the files that a link shows, and all that the last file, the manifest, tells of.
settle() { each directory "$@" | xargs -0 -r sync --; }
rename() { mv -fT -- "$2$new" "$2"; }
install() {
  each write "$@"
  [ "$(each written "$@" | xargs -0 -r stat -c %s --)" = "${sizes%"$line"}" ] || { echo "standard input ended early" >&2; exit 74; }
  for owner in $owners; do each written_for_owner "$@" | xargs -0 -r chown -h -- "$owner"; done
  each written "$@" | xargs -0 -r sync --
  each check "$@"
  each abandoned "$@"
  all=$left
  for turn in files links ${units:+units} last; do
    left=$all
    each turn "$@"
    settle "$@"
  done
  each move "$@"
  [ -z "$units" ] || systemctl daemon-reload
}
turn() {
  case $turn.$1 in
    files.f) left=$((left - 1)); [ "$left" = 0 ] || rename "$@" ;;
    links.l | units.u) rename "$@" ;;
    last.f) left=$((left - 1)); [ "$left" != 0 ] || rename "$@" ;;
  esac
}
move() { [ "$1" != move ] || { sync -- "$2"; mv -T -- "$2" "$3"; sync -- "${3%/*}"; }; }
(
  set -e
  install "$@"
)
status=$?
[ "$status" = 0 ] || each leftover "$@" | xargs -0 -r rm -f --
exit "$status"
