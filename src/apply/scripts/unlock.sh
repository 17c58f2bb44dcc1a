# Ends a run on one server: DIRECTORY RUN; standard input are its lines for the audit log.
set -u
umask 022
cat >>"$1/audit.jsonl" || exit 1
now=0
[ -e "$1/generation" ] && now=$(cat "$1/generation")
echo $((now + 1)) >"$1/generation.new" && mv -f -- "$1/generation.new" "$1/generation" || exit 1
case $(cat "$1/lock" 2>/dev/null) in
  *"$2"*) rm -f -- "$1/lock" ;;
esac
