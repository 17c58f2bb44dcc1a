# Takes files away that pgstead installed, one after the other in the order that is given: whoever ends it in between leaves what stands
# behind. Arguments: the instance's OS USER, then groups. What is not there was taken away before.
#   d PATH   a directory; it stays where something is in it
#   f PATH   a file, or a link to one; a directory is none
#   u PATH   a file of the service manager, with its directory where nothing else is in it; the manager then reads its files again
user=$1
shift
while [ $# -gt 0 ]; do
  home=${2%/*}
  if [ "$1" = d ]; then
    [ ! -d "$2" ] || [ -L "$2" ] || beside "$2" rmdir --ignore-fail-on-non-empty -- "$2" || exit 74
    shift 2
    continue
  fi
  if [ -e "$2" ] || [ -L "$2" ]; then
    [ ! -d "$2" ] || [ -L "$2" ] || { echo "$2 is a directory" >&2; exit 73; }
    beside "$2" rm -f -- "$2" || exit 74
    beside "$2" sync -- "$home" || exit 74
  fi
  case $1 in
    f) ;;
    u)
      [ ! -d "$home" ] || beside "$home" rmdir --ignore-fail-on-non-empty -- "$home" || exit 74
      systemctl daemon-reload || exit 74 ;;
    *) echo "unknown word: $1" >&2; exit 64 ;;
  esac
  shift 2
done
