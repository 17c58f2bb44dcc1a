# Takes the lock of one server: DIRECTORY GENERATION STATE; standard input is the lock's text.
# Exit 9: another run holds it, and its text is printed. Exit 10: the server changed since it was observed.
# A lock of the same state directory belongs to a dead run: the living one holds that directory's own lock (hazard 4).
set -u
umask 022
mkdir -p -- "$1" || exit 1
lock=$1/lock
text=$(cat)
if ! (set -C; printf '%s\n' "$text" >"$lock") 2>/dev/null; then
  held=$(cat "$lock" 2>/dev/null)
  case $held in
    *"$3"*) printf '%s\n' "$text" >"$lock" || exit 1 ;;
    *) printf '%s\n' "$held"; exit 9 ;;
  esac
fi
now=0
[ -e "$1/generation" ] && now=$(cat "$1/generation")
if [ "$now" != "$2" ]; then
  rm -f -- "$lock"
  echo "generation $now, observed $2"
  exit 10
fi
