# What a preflight wants besides; part of the compound probe, whose helpers it uses. It changes nothing.
readiness_host() {
  put r.os_family "$(. /etc/os-release 2>/dev/null; printf '%s' "${ID:-unknown}")"
  put r.processors "$(getconf _NPROCESSORS_ONLN 2>/dev/null)"
  put r.meminfo "$(cat /proc/meminfo 2>/dev/null)"
  put r.overcommit "$(cat /proc/sys/vm/overcommit_memory 2>/dev/null)"
  put r.huge "$(cat /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null)"
  if zone=$(readlink -f /etc/localtime 2>/dev/null) && [ -e "$zone" ]; then put r.time_zone "${zone#*/zoneinfo/}"; else absent r.time_zone; fi
  if [ -r /sys/fs/selinux/enforce ]; then
    if [ "$(cat /sys/fs/selinux/enforce)" = 1 ]; then put r.selinux Enforcing; else put r.selinux Permissive; fi
  else
    absent r.selinux
  fi
  keys=''
  for key in /etc/ssh/ssh_host_*_key.pub; do
    [ -r "$key" ] && keys="$keys$(ssh-keygen -lf "$key" 2>/dev/null | awk '{ print $2 }')
"
  done
  put r.ssh_host_keys "$keys"
  if [ -r /sys/class/dmi/id/product_uuid ]; then put r.product_uuid "$(cat /sys/class/dmi/id/product_uuid)"
  elif [ -e /sys/class/dmi/id/product_uuid ]; then unreadable r.product_uuid "user $me may not read it"
  else absent r.product_uuid; fi
  if [ -r /sys/class/dmi/id/sys_vendor ]; then
    put r.product "$(cat /sys/class/dmi/id/sys_vendor) $(cat /sys/class/dmi/id/product_name 2>/dev/null)"
  else
    absent r.product
  fi
  if [ -r /proc/sys/kernel/random/boot_id ]; then put r.boot_id "$(cat /proc/sys/kernel/random/boot_id)"; else absent r.boot_id; fi
  if command -v systemd-detect-virt >/dev/null 2>&1; then put r.virtualisation "$(systemd-detect-virt 2>/dev/null)"; else absent r.virtualisation; fi
  put r.networks "$(ip -o addr show scope global 2>/dev/null | awk '{ print $4 }')"
  # A network file system that hangs must not hang the probe.
  put r.df "$(timeout 5 df -B1 --output=target,source,fstype,avail,size,iavail 2>/dev/null | tail -n +2)"
  put r.mounts "$(cat /proc/self/mounts 2>/dev/null)"

  missing=''
  for program in awk cat cmp cp dd df getent id install ln mktemp mv namei perl readlink sed setpriv sha256sum stat tail touch; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing$program
"
  done
  if [ "$systemd" = 1 ]; then
    for program in systemctl systemd-run runuser; do command -v "$program" >/dev/null 2>&1 || missing="$missing$program
"; done
  fi
  put r.missing_programs "$missing"

  if [ "$systemd" = 1 ]; then
    set -- chrony chronyd systemd-timesyncd ntp ntpd ntpsec openntpd
    found=''
    for state in $(systemctl is-active "$@" 2>/dev/null); do
      [ "$state" = active ] && [ -z "$found" ] && found=$1
      [ $# -gt 1 ] && shift
    done
    if [ -n "$found" ]; then put r.time_service "$found"; else absent r.time_service; fi
  else
    unreadable r.time_service 'systemd does not run this machine'
  fi

  automatic=''
  if [ -x /usr/bin/unattended-upgrade ] && apt-config dump 2>/dev/null >"$scratch/apt" \
    && grep -q '^APT::Periodic::Unattended-Upgrade "[1-9]' "$scratch/apt" \
    && ! grep -q '^Unattended-Upgrade::Package-Blacklist:: "[^"]*postgresql' "$scratch/apt"; then
    automatic="${automatic}unattended-upgrades
"
  fi
  if [ -x /usr/sbin/needrestart ] && cat /etc/needrestart/needrestart.conf /etc/needrestart/conf.d/*.conf 2>/dev/null >"$scratch/needrestart"; then
    if grep -Eq "^[[:space:]]*.nrconf.restart.[[:space:]]*=[[:space:]]*['\"]a" "$scratch/needrestart" \
      && ! grep -Eq '^[^#]*postgres' "$scratch/needrestart"; then automatic="${automatic}needrestart
"; fi
  fi
  if [ "$systemd" = 1 ] && systemctl -q is-enabled dnf-automatic-install.timer 2>/dev/null; then automatic="${automatic}dnf-automatic
"; fi
  put r.automatic_restarts "$automatic"

  # Only what is there already is asked: to list some packet filters would load them into the kernel.
  firewalls=''
  if [ "$me" = root ] && command -v nft >/dev/null 2>&1 \
    && { [ -d /sys/module/nf_tables ] || ! modinfo -F filename nf_tables 2>/dev/null | grep -q '\.ko'; }; then
    firewalls=$(nft list ruleset 2>/dev/null | awk '
      $1 == "table" { table = $2 " " $3 }
      $1 == "chain" { chain = $2 }
      / hook (input|prerouting|ingress) / && / policy drop;/ { print "nftables: table " table ", chain " chain ", policy drop" }
      $0 !~ / hook / && / (drop|reject)( |$)/ { n[table ", chain " chain]++ }
      END { for (at in n) print "nftables: table " at ", " n[at] " rules that drop or reject" }')
  fi
  if [ -s /proc/net/ip_tables_names ] && [ "$me" = root ] && command -v iptables-legacy >/dev/null 2>&1; then
    legacy=$(iptables-legacy -S INPUT 2>/dev/null | grep -cE -- '-P INPUT DROP|-j (DROP|REJECT)')
    [ "$legacy" -gt 0 ] && firewalls="$firewalls
iptables: $legacy rules of INPUT that drop or reject"
  fi
  if [ "$systemd" = 1 ]; then
    [ -x /usr/sbin/ufw ] && systemctl -q is-active ufw 2>/dev/null && grep -q '^ENABLED=yes' /etc/ufw/ufw.conf 2>/dev/null && firewalls="$firewalls
ufw is enabled"
    systemctl -q is-active firewalld 2>/dev/null && firewalls="$firewalls
firewalld is active"
  fi
  put r.firewalls "$firewalls"
  if locale -a >"$scratch/locales" 2>/dev/null; then put r.locales "$(cat "$scratch/locales")"; else absent r.locales; fi
}

place_facts() { # NUMBER PATH
  at=$2
  while [ ! -e "$at" ]; do above "$at"; at=$parent; done
  mount=$(timeout 5 df --output=target "$at" 2>&1 | tail -n 1)
  if [ -d "$2" ]; then
    if entries=$(ls -A "$2" 2>/dev/null); then
      put "place.$1" "$2
$mount
$(printf '%s' "$entries" | grep -c .) $(stat -L -c %U "$2")"
    else
      put "place.$1" "$2
!
user $me may not list it"
    fi
  elif [ -e "$2" ]; then
    put "place.$1" "$2
!
it is not a directory"
  elif visible "$2"; then
    put "place.$1" "$2
$mount
-"
  else
    put "place.$1" "$2
!
user $me may not look into its directory"
  fi
}

readiness_installation() {
  if [ -d "$data/pg_wal" ]; then
    wal=$(readlink -f "$data/pg_wal")
    put r.wal_directory "$wal"
    place_facts wal "$wal"
  fi
  left=''
  if [ -z "$(ls -A "$data" 2>/dev/null)" ] && visible "$data"; then
    for place in "$config" "$own"; do
      [ -n "$place" ] && [ -n "$(ls -A "$place" 2>/dev/null)" ] && left="$left$place
"
    done
  fi
  put r.leftovers "$left"

  # The postmaster's own limit where it runs, else what its service would give it.
  limit=''
  postmaster=$(head -n 1 "$data/postmaster.pid" 2>/dev/null)
  if [ -n "$postmaster" ] && [ -r "/proc/$postmaster/limits" ]; then
    limit=$(sed -n 's/^Max open files *\([^ ]*\).*/\1/p' "/proc/$postmaster/limits")
  elif [ -n "$unit" ] && [ "$systemd" = 1 ]; then
    limit=$(systemctl show -P LimitNOFILESoft "$unit" 2>/dev/null)
  else
    limit=$(as_instance sh -c 'ulimit -n' 2>/dev/null)
  fi
  case $limit in
    unlimited | infinity) absent r.open_files ;;
    '') unreadable r.open_files 'neither the process nor its service says it' ;;
    *) put r.open_files "$limit" ;;
  esac
  removes=0
  uid=$(id -u "$user" 2>/dev/null || echo 0)
  last=$(sed -n 's/^SYS_UID_MAX[[:space:]]*//p' /etc/login.defs 2>/dev/null)
  if [ "$uid" -gt "${last:-999}" ] && [ "$systemd" = 1 ] && systemctl -q is-active systemd-logind 2>/dev/null; then
    wish=$(systemd-analyze cat-config systemd/logind.conf 2>/dev/null | sed -n 's/^RemoveIPC=//p' | tail -n 1)
    case ${wish:-yes} in no | false | 0 | off) ;; *) removes=1 ;; esac
  fi
  put r.removes_ipc "$removes"

  missing=''
  for program in initdb pg_basebackup pg_controldata pg_ctl pg_rewind pg_verifybackup psql; do
    [ -x "$bin/$program" ] || missing="$missing$program
"
  done
  put r.postgres_missing "$missing"
  if icu=$(reads ldd "$bin/postgres" 2>/dev/null); then
    icu=$(printf '%s\n' "$icu" | sed -n 's/.*libicui18n\.so\.\([0-9]*\).*/\1/p' | head -n 1)
    if [ -n "$icu" ]; then put r.icu "$icu"; else absent r.icu; fi
  else
    unreadable r.icu 'ldd does not say what postgres is linked with'
  fi
  if [ -x "$bin/pg_config" ] && libraries=$(reads "$bin/pg_config" --pkglibdir) && share=$(reads "$bin/pg_config" --sharedir) && [ -d "$libraries" ]; then
    put r.libraries "$(ls "$libraries" 2>/dev/null | sed -n 's/\.so$//p')"
    put r.extensions "$(ls "$share/extension" 2>/dev/null | awk '
      sub(/\.control$/, "") { print; next }
      sub(/\.sql$/, "") { n = split($0, part, "--"); if (n > 1) print part[1], part[n] }')"
  else
    unreadable r.libraries "there is no $bin/pg_config to say where they are"
    unreadable r.extensions "there is no $bin/pg_config to say where they are"
  fi
}

readiness_psql() { # DATABASE; the name goes by the environment, where it can be no conninfo
  PGOPTIONS=$PGOPTIONS$pgstead_superuser PGDATABASE=$1 as_instance "$bin/psql" -XAtqw -v ON_ERROR_STOP=1 -h "$socket" -p "$port" -U postgres
}
readiness_sql() {
  readiness_psql postgres >"$scratch/r.sql" 2>"$scratch/r.err" <<'SQL' || return
@@READINESS_SQL@@
SQL
  number=0
  readiness_psql postgres 2>/dev/null <<'SQL' | while IFS= read -r database; do
SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND datname !~ E'[\n\r]' ORDER BY datname LIMIT 200;
SQL
    number=$((number + 1))
    printf '%s\n' "$database" >"$scratch/db.$number"
    readiness_psql "$database" >>"$scratch/db.$number" 2>"$scratch/db.err" <<'SQL' || { printf '%s\n!\n' "$database"; cat "$scratch/db.err"; } >"$scratch/db.$number"
@@DATABASE_SQL@@
SQL
  done
  readiness_psql postgres >"$scratch/r.wal" 2>/dev/null <<'SQL'
SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END, extract(epoch FROM clock_timestamp());
SQL
  : >"$scratch/r.done"
}
readiness_answer() {
  if [ "$asked" != 1 ]; then absent r.instance; return; fi
  if [ ! -e "$scratch/r.done" ]; then unreadable r.instance "$(cat "$scratch/r.err" 2>/dev/null)"; return; fi
  put r.instance "$(cat "$scratch/r.sql")"
  put r.wal "$(cat "$scratch/r.wal")"
  for path in "$scratch"/db.[0-9]*; do [ -e "$path" ] && put "database.${path##*.}" "$(cat "$path")"; done
}
