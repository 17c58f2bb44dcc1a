# Ends the process group whose id is in file $1, and waits until none of it is left.
group=$(head -n 1 "$1") || exit 0
kill -TERM -- "-$group" 2>/dev/null
end=$(($(date +%s) + 10))
while kill -0 -- "-$group" 2>/dev/null; do
  [ "$(date +%s)" -lt "$end" ] || { kill -KILL -- "-$group" 2>/dev/null; break; }
  sleep 0.02
done
rm -f -- "$1"
