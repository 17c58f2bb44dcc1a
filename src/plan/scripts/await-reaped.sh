# await-reaped LOCK SECONDS: waits until the process that a socket's lock file names is gone, where it has ended and nobody has waited
# for it yet: PostgreSQL takes such a one for a living postmaster, and does not start. Whoever lives is left alone.
set -u
lock=$1 seconds=$2
pid=''
IFS= read -r pid 2>/dev/null <"$lock"
case $pid in '' | *[!0-9]*) exit 0 ;; esac
end=$(($(date +%s) + seconds))
while :; do
  case $(sed -n 's/^State:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null) in [ZX]*) ;; *) exit 0 ;; esac
  if [ "$(date +%s)" -ge "$end" ]; then
    echo "process $pid has ended, and process 1 of this machine has not waited for it for $seconds s: PostgreSQL takes it for a postmaster. A container needs an init (docker run --init)" >&2
    exit 1
  fi
  sleep 0.02
done
