# archive-waiting DATA PROGRAMS CONFIG BEFORE: archives what waits for that in the stopped instance DATA, of the timeline of segment
# BEFORE and earlier than it: WAL of the history that both sides have. A promoted standby archives none of what it only received,
# so that the archive would have a hole (hazards 65, 72). CONFIG is the instance's postgresql.conf ("-": the one in DATA).
# An archive that takes nothing holds nobody up: what waits stays with the old data directory, and "warning: " says so.
set -u
data=$1 programs=$2 config=$3 before=$4
cd -- "$data" || exit 1
setting() {
  if [ "$config" = - ]; then set -- "$1" -D "$data"; else set -- "$1" -D "$data" -c config_file="$config" -c data_directory="$data"; fi
  name=$1
  shift
  "$programs/postgres" "$@" -C "$name"
}
waiting=0 archived=0 why=''
mode=$(setting archive_mode) && command=$(setting archive_command) || { mode=unknown command='' why='its configuration could not be read'; }
[ "$mode" != off ] || exit 0
for ready in pg_wal/archive_status/????????????????????????.ready; do
  segment=${ready##*/} segment=${segment%.ready}
  [ "${segment%????????????????}" = "${before%????????????????}" ] && [ "$segment" != "$before" ] || continue
  [ "$(printf '%s\n%s\n' "$segment" "$before" | sort | head -n 1)" = "$segment" ] && [ -f "pg_wal/$segment" ] || continue
  waiting=$((waiting + 1))
  [ -z "$why" ] || continue
  if [ -z "$command" ]; then why='archive_command is empty'; continue; fi
  # As the archiver does: %% is a percent sign, %p the path and %f the name (manual, archive_command).
  words=$(printf '%s' "$command" | sed "s/%%/$(printf '\001')/g; s|%p|pg_wal/$segment|g; s/%f/$segment/g; s/$(printf '\001')/%/g")
  if said=$(timeout 300 sh -c "$words" 2>&1); then
    archived=$((archived + 1))
  else
    # All in one line, which is what is shown of a step.
    why="archive_command ended with $? for $segment: $(printf '%s' "$said" | tr '\n' ' ')"
  fi
done
[ "$archived" = "$waiting" ] ||
  echo "warning: $((waiting - archived)) of $waiting segments that waited to be archived could not be: $why. They stay in pg_wal of the old data directory; copy them into the archive from there: without them it leads to no moment around the promotion"
