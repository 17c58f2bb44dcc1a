# Breaks the lock in DIRECTORY $1 where its text is still the one on standard input, and says so in the audit log: $2.
set -u
umask 022
text=$(cat)
exec 9<"$1"
flock -w 20 9 || { echo "the lock in $1 could not be looked at: somebody else does so for 20 s" >&2; exit 1; }
[ -e "$1/lock" ] || exit 0
[ "$(cat "$1/lock")" = "$text" ] || { echo 'the lock has changed hands meanwhile' >&2; exit 9; }
[ ! -s "$1/audit.jsonl" ] || [ -z "$(tail -c 1 -- "$1/audit.jsonl")" ] || echo >>"$1/audit.jsonl"
printf '%s\n' "$2" >>"$1/audit.jsonl" || exit 1
rm -f -- "$1/lock"
