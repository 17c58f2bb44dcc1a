# Ends a run on one server: DIRECTORY RUN (as in the JSON text); standard input are its last lines for the audit log.
# Exit 9, with the lock's text, where RUN did not hold the lock any more; then the lock is left alone.
set -u
umask 022
exec 9<"$1"
flock -w 20 9 || { echo "the lock in $1 could not be looked at: somebody else does so for 20 s" >&2; exit 1; }
[ ! -s "$1/audit.jsonl" ] || [ -z "$(tail -c 1 -- "$1/audit.jsonl")" ] || echo >>"$1/audit.jsonl"
cat >>"$1/audit.jsonl" || exit 1
now=0
[ ! -e "$1/generation" ] || now=$(cat "$1/generation")
echo $((now + 1)) >"$1/generation.new" && mv -f -- "$1/generation.new" "$1/generation" || exit 1
held=''
[ ! -e "$1/lock" ] || IFS= read -r held <"$1/lock"
case $held in *"$2"*) rm -f -- "$1/lock" ;; *) printf '%s\n' "$held"; exit 9 ;; esac
