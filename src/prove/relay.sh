# Connects standard input and output with an instance, for as long as both are open: where SSH forwards nothing, or its local
# socket is the way. The first line says "connected", or "! WHY"; what follows is the session's. Arguments:
#   PERL PYTHON (the programs that do it), then: unix SOCKET, or tcp ADDRESS PORT; nothing only says whether it could
export LC_ALL=C
perl=$1 python=$2
shift 2
if command -v perl >/dev/null 2>&1 && perl -MSocket -e1 2>/dev/null; then exec perl -e "$perl" -- "$@"; fi
for program in python3 /usr/libexec/platform-python; do
  if command -v "$program" >/dev/null 2>&1; then exec "$program" -c "$python" "$@"; fi
done
echo '! there is neither perl (with its module Socket) nor python3'
