# Takes the lock of one server: DIRECTORY OWNER GENERATION STATE (as in the JSON text) LEASE STARTED EXPIRED.
# Standard input is the lock's text. STARTED is the run's first line for the audit log; EXPIRED, an object, is completed
# with the old lock's age and text where a foreign lease of more than LEASE seconds is taken over.
# The directory and those above it are made for OWNER where they are absent: a data directory comes to stand beside it.
# Exit 9: another run holds it; its age and its text are printed. Exit 10: the server changed since it was observed.
# A lock of the same state directory belongs to a dead run: the living one holds that directory's own lock (hazard 4).
# Age is what this server's clock says since the last renewal; no other clock is asked (hazard 15).
set -u
umask 022
make() { [ -d "$1" ] || { make "${1%/*}" "$2" && if mkdir -- "$1" 2>/dev/null; then chown -- "$2" "$1"; else [ -d "$1" ]; fi; }; }
make "$1" "$2" || { echo "could not make $1" >&2; exit 1; }
text=$(cat)
# Looking and taking is one act: whoever comes at the same time waits here, and the kernel lets go of a killed one.
exec 9<"$1"
flock -w 20 9 || { echo "the lock in $1 could not be looked at: somebody else does so for 20 s" >&2; exit 1; }
lock=$1/lock
# One that root began, when root still worked in directories of others, is gone on with as its directory's owner.
if [ -e "$1/audit.jsonl" ] && [ ! -w "$1/audit.jsonl" ]; then
  rm -f -- "$1/audit.jsonl.new" && cp -- "$1/audit.jsonl" "$1/audit.jsonl.new" && mv -fT -- "$1/audit.jsonl.new" "$1/audit.jsonl" || exit 1
fi
held='' age='' expired=0
if [ -e "$lock" ]; then
  held=$(cat "$lock") && renewed=$(stat -c %Y -- "$lock") || exit 1
  age=$(($(date +%s) - renewed))
  case $held in
    *"$4"*) ;;
    *)
      [ "$age" -ge "$5" ] || { printf '%s\n%s\n' "$age" "$held"; exit 9; }
      expired=1 ;;
  esac
fi
now=0
[ ! -e "$1/generation" ] || now=$(cat "$1/generation")
if [ "$now" != "$3" ]; then
  echo "generation $now, observed $3"
  exit 10
fi
# From here on each step may be the last: lines tell what was about to be done, and the rename of the lock is the act.
{
  [ ! -s "$1/audit.jsonl" ] || [ -z "$(tail -c 1 -- "$1/audit.jsonl")" ] || echo
  if [ "$expired" = 1 ]; then
    quoted=$(printf '%s' "$held" | tr -d '\000-\037' | sed 's/[\\"]/\\&/g')
    printf '%s,"age_seconds":%s,"lock":"%s"}\n' "${7%\}}" "$age" "$quoted"
  fi
  printf '%s\n' "$6"
} >>"$1/audit.jsonl" || exit 1
# A run that looked before this one began and asks for the lock after it died must not take its own look for the present.
echo $((now + 1)) >"$1/generation.new" && mv -f -- "$1/generation.new" "$1/generation" || exit 1
rm -f -- "$lock.new"
(set -C; printf '%s\n' "$text" >"$lock.new") && mv -fT -- "$lock.new" "$lock" || exit 1
[ "$expired" = 0 ] || printf '%s\n%s\n' "$age" "$held"
