# Takes the lock of one server: DIRECTORY OWNER GENERATION STATE (as in the JSON text); standard input is the lock's text.
# The directory and those above it are made for OWNER where they are absent: a data directory comes to stand beside it.
# Exit 9: another run holds it, and its text is printed. Exit 10: the server changed since it was observed.
# A lock of the same state directory belongs to a dead run: the living one holds that directory's own lock (hazard 4).
set -u
umask 022
make() { [ -d "$1" ] || { make "${1%/*}" "$2" && mkdir -- "$1" && chown -- "$2" "$1"; } }
make "$1" "$2" || exit 1
lock=$1/lock
text=$(cat)
if ! (set -C; printf '%s\n' "$text" >"$lock") 2>/dev/null; then
  held=$(cat "$lock" 2>/dev/null)
  case $held in
    *"$4"*) printf '%s\n' "$text" >"$lock" || exit 1 ;;
    *) printf '%s\n' "$held"; exit 9 ;;
  esac
fi
now=0
[ -e "$1/generation" ] && now=$(cat "$1/generation")
if [ "$now" != "$3" ]; then
  rm -f -- "$lock"
  echo "generation $now, observed $3"
  exit 10
fi
