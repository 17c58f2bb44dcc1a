# Looks where settings and tablespaces of another server lead, and changes nothing. Arguments:
#   VERSION USER BIN SEARCH, then groups: path PATH, group NAME, program NAME, library NAME
#   SEARCH is the dynamic_library_path in which a library without a directory is looked for.
# It answers with the probe's records: answer.N of the N-th group. Line 1: missing, directory, file or other, and 1 or 0 for whether
# the instance's user may read it and may write there; line 2: the nearest directory above; line 3: a tablespace's directory in it.
main() {
set -u
export LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
cd / || exit 1
put() { printf '#%s %s\n%s\n' "$1" "${#2}" "$2"; }
unreadable() { printf '#%s ! %s\n' "$1" "$(printf '%s' "$2" | tr -s '\n\t' ' ' | cut -c 1-400)"; }
me=$(id -un)
version=$1 user=$2 bin=$3 search=$4
shift 4
as_instance() {
  if [ "$user" = "$me" ]; then "$@"; elif [ "$me" = root ]; then runuser -u "$user" -- "$@"; else
    echo "user $me can become neither root nor $user" >&2
    return 126
  fi
}
# What the instance's user sees counts, not what root sees: it is the user who must find it.
look='p=$1 v=$2
if [ -d "$p" ]; then w=directory; elif [ -f "$p" ]; then w=file; elif [ -e "$p" ] || [ -L "$p" ]; then w=other; else w=missing; fi
n=$p
while [ ! -e "$n" ]; do n=${n%/*}; n=${n:-/}; done
r=0; [ -r "$n" ] && { [ ! -d "$n" ] || [ -x "$n" ]; } && r=1
m=0; [ -w "$n" ] && { [ ! -d "$n" ] || [ -x "$n" ]; } && m=1
t=
if [ "$w" = directory ]; then for one in "$p"/PG_"$v"_*; do [ -e "$one" ] && t=${one##*/}; done; fi
printf "%s %s %s\n%s\n%s\n" "$w" "$r" "$m" "$n" "$t"'
found() { put "answer.$number" "file $1 0
"; }
missing() { put "answer.$number" "missing 0 0
"; }
directories() {
  for directory in "${bin%/bin}/lib" "${bin%/bin}/lib/postgresql" "/usr/lib/postgresql/$version/lib"; do
    if [ -e "$directory/plpgsql.so" ]; then libraries=$directory; return; fi
  done
  libraries=''
}
library() { # NAME
  case $1 in
    /*) set -- "$1" ;;
    '$libdir'/*) set -- "$libraries/${1#*/}" ;;
    */*) set -- "$libraries/$1" ;;
    *)
      name=$1
      # "$libdir" is each server's own; who may not name a directory gets what is in "plugins".
      rest=$search: all=''
      set -- "$libraries/plugins/$name"
      while [ -n "$rest" ]; do
        one=${rest%%:*} rest=${rest#*:}
        case $one in '$libdir'*) one=$libraries${one#'$libdir'} ;; esac
        set -- "$@" "$one/$name"
      done ;;
  esac
  for one in "$@"; do
    for file in "$one" "$one.so"; do
      if as_instance test -f "$file" -a -r "$file"; then return 0; fi
    done
  done
  return 1
}
directories
number=0
while [ $# -gt 0 ]; do
  number=$((number + 1))
  case $1 in
    path) if said=$(as_instance sh -c "$look" look "$2" "$version" 2>&1); then put "answer.$number" "$said"; else unreadable "answer.$number" "$said"; fi ;;
    group)
      if ! getent group "$2" >/dev/null; then missing
      elif id -Gn "$user" | tr ' ' '\n' | grep -qxF -- "$2"; then found 1
      else found 0; fi ;;
    program) if as_instance sh -c 'command -v -- "$1"' look "$2" >/dev/null 2>&1; then found 1; else missing; fi ;;
    library) if library "$2"; then found 1; else missing; fi ;;
  esac
  shift 2
done
put end ok
}
main "$@" </dev/null
