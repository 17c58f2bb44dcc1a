# --- What stands beside the data directory. Each costs a few short processes, so nothing is asked where nothing stands.
number=0
for path in "$place".seed.* "$place".aside.*; do
  if [ ! -e "$path" ] && [ ! -L "$path" ]; then continue; fi
  number=$((number + 1))
  if [ -L "$path" ]; then what=link; elif [ ! -d "$path" ]; then what=other; elif [ "$path" -ef "$data" ]; then what=data; else what=directory; fi
  facts=$(stat -c '%U %Y' "$path" 2>/dev/null) || facts='- 0'
  entries=$(ls -A "$path" 2>/dev/null | grep -c .)
  put "beside.$number" "$what $entries $facts
$path"
  if [ "$what" != directory ]; then continue; fi
  real=$(readlink -f "$path")
  # Mount points are written with octal escapes, as this path is not; one that has them is not understood, and said so.
  case $real in
    *[!a-zA-Z0-9/._+:@%=,-]*) unreadable "beside_mount.$number" "its path holds unusual characters" ;;
    *)
      if mount=$(R=$real awk '$5 == ENVIRON["R"] || index($5, ENVIRON["R"] "/") == 1 { print $5; exit }' /proc/self/mountinfo 2>&1); then
        if [ -n "$mount" ]; then put "beside_mount.$number" "$mount"; else absent "beside_mount.$number"; fi
      else
        unreadable "beside_mount.$number" "$mount"
      fi ;;
  esac
  # Every process of an instance works in its data directory. Another user's is visible to root alone.
  pid=$(find /proc/[0-9]*/cwd -maxdepth 0 -printf '%p %l\n' 2>/dev/null |
    R=$real awk '{ at = substr($0, index($0, " ") + 1) } at == ENVIRON["R"] || index(at, ENVIRON["R"] "/") == 1 { split($1, part, "/"); print part[3]; exit }')
  if [ -n "$pid" ]; then put "beside_process.$number" "$pid"; else absent "beside_process.$number"; fi
  if [ ! -r "$path" ] || [ ! -x "$path" ]; then continue; fi
  if [ -e "$path/pgstead.identity" ]; then put "beside_identity.$number" "$(reads head -c 4096 "$path/pgstead.identity" 2>/dev/null)"; else absent "beside_identity.$number"; fi
  if [ -e "$path/global/pg_control" ]; then
    if control=$(reads "$bin/pg_controldata" -D "$path" 2>&1); then put "beside_control.$number" "$control"; else unreadable "beside_control.$number" "$control"; fi
  else
    absent "beside_control.$number"
  fi
  leads=''
  for link in "$path"/pg_wal "$path"/pg_tblspc/*; do
    [ -L "$link" ] && leads="$leads$(readlink "$link")
"
  done
  put "beside_leads.$number" "$leads"
  if [ "$want_beside_size" = 1 ]; then
    # What vanishes while it is counted is no matter.
    counted=$(timeout 10 du -sx -B1 "$path" 2>/dev/null)
    if [ $? = 124 ]; then unreadable "beside_bytes.$number" "counting took more than 10 s"; else put "beside_bytes.$number" "${counted%%	*}"; fi
  fi
done
