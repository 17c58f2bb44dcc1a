# Stands before whatever a run does under its lock on one server: DIRECTORY RUN (as in the JSON text) LEASE [...].
# Until descriptor 9 is closed nobody else looks at the lock. `lost` is 1 unless RUN holds it and its lease of LEASE seconds lives,
# by this server's clock. A lease that has ended is nobody's, not even its holder's: who slept that long may have been overtaken
# on a server that cannot be seen from here (hazard 4).
set -u
umask 022
directory=$1 run=$2 lease=$3
shift 3
exec 9<"$directory"
flock -w 20 9 || { echo "the lock in $directory could not be looked at: somebody else does so for 20 s" >&2; exit 1; }
held='' age=0 lost=1
if [ -e "$directory/lock" ]; then
  IFS= read -r held <"$directory/lock"
  renewed=$(stat -c %Y -- "$directory/lock") || exit 1
  age=$(($(date +%s) - renewed))
fi
case $held in *"$run"*) [ "$age" -ge "$lease" ] || lost=0 ;; esac
# Says what stands there, with its age, and ends.
tell_lost() { printf '%s\n%s\n' "$age" "$held"; exit 9; }
