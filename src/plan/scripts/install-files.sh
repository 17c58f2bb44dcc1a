# Installs files whole or not at all: everything is written beside its place, validated, and only then renamed (hazard 42).
# Arguments: the instance's OS USER, as whom everything is done that is not in a place of root's (owner.sh), then groups:
#   d PATH OWNER MODE        a directory, made where it is absent and left alone where it is there
#   f PATH OWNER MODE BYTES  a file; its content is the next BYTES of standard input. One named manifest tells of all others, and
#                            gets its name behind them
#   b PATH OWNER MODE BYTES  such a file that gets its name behind the move: it says that the directory is there
#   u PATH OWNER MODE BYTES  such a file of the service manager, after all that it relies on; the manager reads it at the very end
#   l PATH TARGET            a symbolic link, switched in one rename; a PATH.* that no link shows goes, where it is of the same kind
#   check POSTGRES FILE      FILE is a postgresql.conf, which this server binary must be able to read
#   move FROM TO             at the very end: a finished directory gets its name; TO must be absent or empty
# Processes are what costs time here: one program serves all files wherever it can.
user=$1
shift
umask 077
new=.pgstead-new
line='
'
sizes='' owners='' units=''
each() { # FUNCTION, arguments: calls FUNCTION with one group after the other
  pass=$1
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      d) words=4 ;;
      f | b | u) words=5 ;;
      l | check | move) words=3 ;;
      *) echo "unknown word: $1" >&2; exit 64 ;;
    esac
    "$pass" "$@"
    shift "$words"
  done
}
# Runs a command with all paths for which FUNCTION sets "path", one after the other; not where there is none. A path that its
# predecessor had is told once.
all() { # FUNCTION COMMAND, arguments
  pick=$1 command=$2
  shift 2
  count=$# former=''
  while [ "$count" -gt 0 ]; do
    case $1 in d) words=4 ;; f | b | u) words=5 ;; *) words=3 ;; esac
    path=''
    "$pick" "$@"
    shift "$words"
    count=$((count - words))
    [ -z "$path" ] || [ "$path" = "$former" ] || set -- "$@" "$path"
    former=${path:-$former}
  done
  [ $# = 0 ] || $command "$@"
}
make() { case $1 in d) make_directory "$2" "$4" "$3" ;; esac; }
write() {
  case $1 in
    f | b | u)
      if [ -e "$2$new" ] || [ -L "$2$new" ]; then at "$2" rm -f -- "$2$new"; fi
      # The file is made with its mode, so that it is never more open than at the end.
      case $4 in 0600) umask 177 ;; 0640) umask 137 ;; 0644) umask 133 ;; esac
      # Only a file that is not there is opened (O_EXCL): a link that someone puts there meanwhile leads nowhere.
      at "$2" dd conv=excl of="$2$new" bs=65536 iflag=fullblock,count_bytes count="$5" status=none
      umask 077
      case $4 in 0600 | 0640 | 0644) ;; *) at "$2" chmod -- "$4" "$2$new" ;; esac
      sizes=$sizes$5$line
      [ "$1" != u ] || units=1
      case $line$owners in *"$line$3$line"*) ;; *) owners=$owners$3$line ;; esac ;;
    l) at "$2" rm -f -- "$2$new"; at "$2" ln -s -- "$3" "$2$new" ;;
    move) [ ! -e "$3" ] || [ -z "$(ls -A "$3")" ] || { echo "$3 is not empty" >&2; exit 73; } ;;
  esac
}
# Runs a command as whoever acts in the directory of a path. Each directory is judged once, when everything is made: one of root's
# stays root's, and one of another's is nothing that anybody could make root's.
roots=$line others=$line
at() { # PATH COMMAND…
  if is_at_roots "$1"; then shift; "$@"; else shift; as_user "$@"; fi
}
is_at_roots() { # PATH
  home=${1%/*}
  case $roots in *"$line$home$line"*) return 0 ;; esac
  case $others in *"$line$home$line"*) return 1 ;; esac
  if is_roots "${home:-/}"; then roots=$roots$home$line; else others=$others$home$line; return 1; fi
}
# All of them with one process. What gets no verdict here is judged by itself.
judge_all() { # DIRECTORY…
  judge "$@"
  [ "${#verdicts}" = $# ] || return 0
  for home; do
    case $verdicts in 1*) roots=$roots${home%/}$line ;; *) others=$others${home%/}$line ;; esac
    verdicts=${verdicts#?}
  done
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
      at "$file" rm -f -- "$file" "${file%"$new"}"
    done
    at "$old" rmdir -- "$old" 2>/dev/null || :
  done
}
written() { case $1 in f | b | u) path=$2$new ;; esac; }
# Only root gives a file away, and only where nobody else could put another in its place. What the user made is the user's.
written_for_owner() { case $1 in f | b | u) if [ "$3" = "$owner" ] && is_at_roots "$2"; then path=$2$new; fi ;; esac; }
written_by_root() { case $1 in f | b | u) if is_at_roots "$2"; then path=$2$new; fi ;; esac; }
written_by_user() { case $1 in f | b | u) if ! is_at_roots "$2"; then path=$2$new; fi ;; esac; }
leftover() {
  case $1 in
    f | b | u | l) [ ! -e "$2$new" ] && [ ! -L "$2$new" ] || at "$2" rm -f -- "$2$new" ;;
    check) [ ! -e "$3.pgstead-check" ] || as_user rm -f -- "$3.pgstead-check" ;;
  esac
}
directory() { # of each group
  case $1 in d | f | b | u | l) path=${2%/*} path=${path:-/} ;; esac
}
# Where the operator's file includes ours, a copy of it that includes the new one is read instead. The server reads it as its own user.
check() {
  [ "$1" = check ] || return 0
  if [ -e "${3%/*}/pgstead.conf$new" ]; then
    at "$3" rm -f -- "$3.pgstead-check"
    at "$3" sh -c 'set -C; sed "s/^include '\''pgstead.conf'\''\$/include '\''pgstead.conf$2'\''/" "$1$2" >"$1.pgstead-check"' sh "$3" "$new"
    as_user "$2" -C port -D "${3%/*}" -c config_file="$3.pgstead-check" >/dev/null
    at "$3" rm -f -- "$3.pgstead-check"
  else
    as_user "$2" -C port -D "${3%/*}" -c config_file="$3$new" >/dev/null
  fi
}
# What a rename relies on is on disk before it: the files that a link shows, and all that the manifest tells of.
settle() { [ "$turned" = 0 ] || all directory 'sync --' "$@"; }
rename() { at "$2" mv -fT -- "$2$new" "$2"; turned=1; }
install() {
  each make "$@"
  if [ "$am_root" = 1 ] && [ "$user" != root ]; then group=$(id -g -- "$user"); fi
  all directory judge_all "$@"
  each write "$@"
  [ "$(all written 'stat -c %s --' "$@")" = "${sizes%"$line"}" ] || { echo "standard input ended early" >&2; exit 74; }
  for owner in $owners; do all written_for_owner "chown -h -- $owner" "$@"; done
  # To open a file is to follow what stands there: root opens only what is in its own places.
  all written_by_root 'sync --' "$@"
  all written_by_user 'as_user sync --' "$@"
  each check "$@"
  each abandoned "$@"
  for turn in files links ${units:+units} manifest; do
    turned=0
    each turn "$@"
    settle "$@"
  done
  each move "$@"
  turn=behind
  each turn "$@"
  [ -z "$units" ] || systemctl daemon-reload
}
turn() {
  case $turn.$1 in
    files.f) case $2 in */manifest) ;; *) rename "$@" ;; esac ;;
    manifest.f) case $2 in */manifest) rename "$@" ;; esac ;;
    links.l | units.u) rename "$@" ;;
    behind.b) rename "$@"; sync -- "${2%/*}" ;;
  esac
}
move() { [ "$1" != move ] || { sync -- "$2"; as_user mv -T -- "$2" "$3"; sync -- "${3%/*}"; }; }
(
  set -e
  install "$@"
)
status=$?
[ "$status" = 0 ] || each leftover "$@"
exit "$status"
