# rewind-progress DIRECTORY DATA SEED: says how far the job in DIRECTORY is that makes SEED of DATA, as phase, bytes done and
# bytes in all between tabs.
set -u
directory=$1 data=$2 seed=$3
# pg_rewind says it itself, as "  1024/2048 kB (50%) copied".
said=$(tail -c 4000 -- "$directory/output" 2>/dev/null | tr '\r' '\n' | sed -n 's|^ *\([0-9]*\)/\([0-9]*\) kB .*|\1 \2|p' | tail -n 1)
if [ -n "$said" ]; then
  printf 'rewinding\t%s\t%s\n' $((${said% *} * 1024)) $((${said#* } * 1024))
  exit
fi
size() { set -- $(du --summarize --block-size=1 -- "$1" 2>/dev/null); echo "${1:-0}"; }
# Where the data directory itself is rewound, it has become SEED already.
[ -d "$data" ] || exit 0
printf 'copying the data directory\t%s\t%s\n' "$(size "$seed")" "$(size "$data")"
