# Installs files whole or not at all: everything is written beside its place, validated, and only then renamed (hazard 42).
# Arguments, in groups:
#   d PATH OWNER MODE        a directory, made where it is absent and left alone where it is there
#   f PATH OWNER MODE BYTES  a file; its content is the next BYTES of standard input
#   l PATH TARGET            a symbolic link, switched in one rename
#   check POSTGRES FILE      FILE is a postgresql.conf, which this server binary must be able to read
#   move FROM TO             at the very end: a finished directory gets its name; TO must be absent or empty
set -eu
umask 077
new=.pgstead-new
each() { # FUNCTION-PREFIX, arguments...
  pass=$1
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      d | check | move | l) "${pass}_$1" "$2" "$3" "${4-}"; [ "$1" = d ] && shift 4 || shift 3 ;;
      f) "${pass}_f" "$2" "$3" "$4" "$5"; shift 5 ;;
      *) echo "unknown word: $1" >&2; exit 64 ;;
    esac
  done
}
nothing() { :; }
write_d() { [ -d "$1" ] || { mkdir -p -- "$1"; chown -- "$2" "$1"; chmod -- "$3" "$1"; }; }
write_f() {
  head -c "$4" >"$1$new"
  [ "$(stat -c %s "$1$new")" = "$4" ] || { echo "$1: standard input ended early" >&2; exit 74; }
  chown -- "$2" "$1$new"
  chmod -- "$3" "$1$new"
  sync -- "$1$new"
}
write_l() { rm -f -- "$1$new"; ln -s -- "$2" "$1$new"; }
write_check() { "$1" -C port -D "$(dirname "$2")" -c config_file="$2$new" >/dev/null; }
write_move() { [ ! -e "$2" ] || [ -z "$(ls -A "$2")" ] || { echo "$2 is not empty" >&2; exit 73; }; }
rename_d() { :; }
rename_f() { mv -fT -- "$1$new" "$1"; sync -- "$(dirname "$1")"; }
rename_l() { mv -fT -- "$1$new" "$1"; sync -- "$(dirname "$1")"; }
rename_check() { :; }
rename_move() { sync -- "$1"; mv -T -- "$1" "$2"; sync -- "$(dirname "$2")"; }
discard_d() { :; }
discard_f() { rm -f -- "$1$new"; }
discard_l() { rm -f -- "$1$new"; }
discard_check() { :; }
discard_move() { :; }
trap 'each discard "$@"' EXIT
each write "$@"
each rename "$@"
