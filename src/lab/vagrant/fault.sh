# Makes a fault in a machine of a lab, or ends it. As root: fault.sh WHAT ADDRESS [NUMBER]
#
# ADDRESS is the server's in the network of the servers. Vagrant's own way in is another interface, and stays.
set -eu
what=$1 address=$2 number=${3:-}

interface=$(ip -o -4 address show | awk -v address="$address" '{ split($4, its, "/") } its[1] == address { print $2; exit }')
if [ -z "$interface" ]; then
    echo "no interface has the address $address" >&2
    exit 1
fi
filler=/var/lib/postgresql/.pgstead-lab-filler

# What the processor's own clock says does not change with the system's. Its seconds are waited for to begin.
set_clock() {
    rtc=/sys/class/rtc/rtc0/since_epoch
    before=$(cat "$rtc")
    now=$before
    while [ "$now" = "$before" ]; do now=$(cat "$rtc"); done
    date -s "@$((now + $1))" >/dev/null
}

# Tables of the lab's own: whatever limits of sites there are stay as they are.
without() {
    nft delete table inet "$1" 2>/dev/null || :
}

case $what in
# The interface stays up: one that goes down loses its address, and tells those who wait for an answer.
link-off)
    without pgstead_link
    nft -f - <<END
table inet pgstead_link {
    chain in { type filter hook prerouting priority -300; iifname "$interface" drop; }
    chain out { type filter hook output priority -300; oifname "$interface" drop; }
}
END
    ;;
link-on) without pgstead_link ;;
disk-full)
    available=$(df --output=avail -B1 /var/lib/postgresql | tail -n 1)
    # Root's reserve stays; PostgreSQL has none of it.
    fallocate -l "$available" "$filler"
    ;;
disk-free) rm -f "$filler" ;;
rate-limited)
    without pgstead_rate
    bytes=$((number * 125))
    nft -f - <<END
table inet pgstead_rate {
    chain in { type filter hook input priority 0; iifname "$interface" limit rate over $bytes kbytes/second burst 256 kbytes drop; }
    chain out { type filter hook output priority 0; oifname "$interface" limit rate over $bytes kbytes/second burst 256 kbytes drop; }
}
END
    ;;
rate-free) without pgstead_rate ;;
clock-ahead)
    timedatectl set-ntp false 2>/dev/null || :
    set_clock "$number"
    ;;
clock-right)
    set_clock 0
    timedatectl set-ntp true 2>/dev/null || :
    ;;
*)
    echo "no such fault: $what" >&2
    exit 2
    ;;
esac
