# Reads the end of an instance's log, and changes nothing. Arguments:
#   USER DATA LOG UNIT, and where it was read before FILE POSITION (only what came since then is read)
# LOG is where the service manager or pg_ctl puts it; the logging collector names its own file in the data directory. Where
# neither is there, the journal of UNIT is the log, and its POSITION is a time.
# It answers with the probe's records "file", "position" and "text" (64 kB at most, the newest).
main() {
set -u
export LC_ALL=C
cd / || exit 1
put() { printf '#%s %s\n%s\n' "$1" "${#2}" "$2"; }
absent() { printf '#%s -\n' "$1"; }
me=$(id -un)
user=$1 data=$2 log=$3 unit=$4 before=${5-} from=${6-0}
# The instance's user chooses the file: what that user may not read is not read for it.
as_instance() {
  if [ "$me" = root ] && [ "$user" != root ]; then
    setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups -- "$@"
  else
    "$@"
  fi
}
named=$(as_instance sed -n 's/^stderr //p' "$data/current_logfiles" 2>/dev/null | head -n 1)
case $named in '' | /*) ;; *) named=$data/$named ;; esac
# Before the collector runs, and when it has ended, the other file is the one that grows.
file=''
for candidate in "$named" "$log"; do
  if [ -n "$candidate" ] && as_instance test -f "$candidate" && as_instance test -r "$candidate"; then
    if [ -z "$file" ] || as_instance test "$candidate" -nt "$file"; then file=$candidate; fi
  fi
done
if [ -n "$file" ]; then
  size=$(as_instance stat -L -c %s -- "$file")
  # Another file, or one that was begun anew: nothing of it has been read.
  if [ "$file" != "$before" ] || [ "$size" -lt "$from" ]; then from=0; fi
  put file "$file"
  put position "$size"
  put text "$(as_instance tail -c "+$((from + 1))" -- "$file" 2>/dev/null | tail -c 65536 | tr -d '\000')"
elif [ -n "$unit" ] && command -v journalctl >/dev/null; then
  file="the journal of $unit"
  now=$(date +%s)
  if [ "$file" != "$before" ]; then from=$((now - 600)); fi
  put file "$file"
  put position "$now"
  put text "$(journalctl --no-pager -q -o cat -u "$unit" --since "@$from" -n 200 2>/dev/null | tail -c 65536 | tr -d '\000')"
else
  absent file
fi
put end ok
}
main "$@" </dev/null
