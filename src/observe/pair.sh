# Measures the way to one server while another measures the way here. It ends by itself and leaves nothing behind.
# Arguments: TOKEN_IN SECONDS(throughput, 0 for none) PORT SIDE_PORTS(a,b,c) LISTEN(addresses, comma) then, where this
# server connects too: TOKEN_OUT HOST TO_PORT TO_SIDE_PORTS
main() {
export LC_ALL=C
if ! command -v perl >/dev/null 2>&1; then echo 'error there is no perl to measure with'; echo end; return 0; fi
program=$(cat <<'PERL'
use strict; use warnings;
use Socket qw(:all);
use Errno qw(EINPROGRESS EADDRINUSE EADDRNOTAVAIL ECONNREFUSED EINTR EAGAIN);
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
my ($token_in, $limit, $port, $sides, $listen, $token_out, $host, $to_port, $to_sides) = @ARGV;
$| = 1;
my $DEADLINE = 15; my $CONNECT = 3;
my $ENOUGH = 64 << 20; # bytes
my $hires = eval { require Time::HiRes; 1 };
sub now {
  return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) if $hires;
  my %call = (x86_64 => 228, aarch64 => 113); my $machine = `uname -m`; chomp $machine;
  my $room = "\0" x 16;
  syscall($call{$machine} // 228, 1, $room) == 0 or die "no clock\n";
  my ($s, $ns) = unpack 'q q', $room; return $s + $ns / 1e9;
}
my $begun = now();
sub pause { select undef, undef, undef, shift }
sub say_it { print join(' ', @_), "\n" }
# Waits until a handle can be read or written; false when the time is up.
sub ready { my ($handle, $write, $until) = @_;
  while (1) { my $left = $until - now(); return 0 if $left <= 0;
    my $bits = ''; vec($bits, fileno $handle, 1) = 1;
    my $n = select($write ? undef : $bits, $write ? $bits : undef, undef, $left);
    return 1 if $n > 0; } }
sub read_exactly { my ($handle, $length, $until) = @_; my $got = '';
  while (length $got < $length) { return undef unless ready($handle, 0, $until);
    my $n = sysread $handle, $got, $length - length $got, length $got;
    next if !defined $n && ($!{EINTR} || $!{EAGAIN}); return undef unless $n; } return $got }
sub write_all { my ($handle, $text, $until) = @_; my $at = 0;
  while ($at < length $text) { return 0 unless ready($handle, 1, $until);
    my $n = syswrite $handle, $text, length($text) - $at, $at;
    next if !defined $n && ($!{EINTR} || $!{EAGAIN}); return 0 unless defined $n; $at += $n } return 1 }
sub read_line { my ($handle, $until) = @_; my $line = '';
  while (length $line < 200) { my $c = read_exactly($handle, 1, $until); return undef unless defined $c;
    return $line if $c eq "\n"; $line .= $c } return undef }
sub name_of { my ($error, $ip) = getnameinfo(shift, NI_NUMERICHOST, NIx_NOSERV); return defined $ip ? $ip : '' }
sub addresses { my ($name, $port, $flags) = @_;
  my ($error, @found) = getaddrinfo($name, $port, { socktype => SOCK_STREAM, flags => $flags }); return @found }
sub nonblocking { my $handle = shift; fcntl $handle, F_SETFL, fcntl($handle, F_GETFL, 0) | O_NONBLOCK }
sub tcp_info { my $info = getsockopt(shift, IPPROTO_TCP, 11); return () unless defined $info && length $info >= 140;
  return (mtu => unpack('x60 L', $info), retransmits => unpack('x100 L', $info), segments => unpack('x136 L', $info)) }

# --- The one that answers: for one client, on the port of the instance where that is free, and on a side port.
sub bound { my ($ip, $port) = @_;
  my ($found) = addresses($ip, $port, AI_NUMERICHOST) or return (undef, 'not an address');
  socket(my $handle, $found->{family}, SOCK_STREAM, 0) or return (undef, "$!");
  setsockopt $handle, SOL_SOCKET, SO_REUSEADDR, 1;
  setsockopt($handle, IPPROTO_IPV6, IPV6_V6ONLY, 1) if $found->{family} == AF_INET6;
  bind($handle, $found->{addr}) or return (undef, "$!"); listen($handle, 4) or return (undef, "$!");
  nonblocking($handle); return ($handle, undef) }
sub serve { my ($client, $peer) = @_; my $until = $begun + $DEADLINE;
  nonblocking($client); setsockopt $client, IPPROTO_TCP, TCP_NODELAY, 1;
  # An SSLRequest, as to PostgreSQL; the answer is one that PostgreSQL never gives.
  my $hello = read_exactly($client, 8, now() + 2); return 0 unless defined $hello && $hello eq pack('NN', 8, 80877103);
  write_all($client, 'P', $until) or return 0;
  my $token = read_line($client, $until); return 0 unless defined $token && $token eq $token_in;
  write_all($client, name_of($peer) . "\n", $until) or return 0;
  while (defined(my $what = read_exactly($client, 1, $until))) {
    if ($what eq 'e') { my $text = read_exactly($client, 63, $until); return 0 unless defined $text; write_all($client, "e$text", $until) or return 0 }
    elsif ($what eq 'q') { return 0 } # Asked only whether the port is open.
    elsif ($what eq 't') { my ($bytes, $start, @seen) = (0, undef);
      while (ready($client, 0, $until)) { my $n = sysread $client, my $block, 262144;
        next if !defined $n && ($!{EINTR} || $!{EAGAIN}); last unless $n; $start //= now(); $bytes += $n; push @seen, [now(), $bytes] }
      # The first part is TCP finding its speed.
      my $rate = 0;
      if (@seen > 1) { my ($from) = grep { $_->[0] >= $start + 0.4 * ($seen[-1][0] - $start) } @seen;
        my $time = $seen[-1][0] - $from->[0];
        ($from, $time) = ($seen[0], $seen[-1][0] - $start) if $time < 0.05;
        $rate = ($seen[-1][1] - $from->[1]) / $time if $time > 0 }
      write_all($client, sprintf("%.0f %.0f\n", $bytes, $rate), $until); return 1 }
    else { return 1 } }
  return 1 }
sub answer { my @doors = @_; my $until = $begun + 2 * $CONNECT + 1;
  while (now() < $until) { my $bits = ''; vec($bits, fileno $_, 1) = 1 for @doors;
    next unless select($bits, undef, undef, $until - now()) > 0;
    for my $door (@doors) { my $peer = accept(my $client, $door) or next; my $done = serve($client, $peer); close $client; return if $done } } }

# --- The one that asks.
sub connect_to { my ($host, $port, $until, $once) = @_; my $last;
  my @found = addresses($host, $port, 0); return (undef, 'not_resolved') unless @found;
  while (1) { my $try = now() + $CONNECT; $try = $until if $until < $try;
    my $found = $found[0];
    socket(my $handle, $found->{family}, SOCK_STREAM, 0) or return (undef, "failed $!");
    nonblocking($handle); setsockopt $handle, IPPROTO_TCP, TCP_NODELAY, 1;
    if (!connect $handle, $found->{addr}) {
      if (!$!{EINPROGRESS}) { return (undef, "failed $!") unless $!{ECONNREFUSED} }
      elsif (!ready($handle, 1, $try)) { return (undef, $last // 'timed_out') } }
    my $error = unpack 'i', getsockopt($handle, SOL_SOCKET, SO_ERROR);
    my $peer = getpeername $handle;
    return ($handle, 'open') if $error == 0 && defined $peer;
    $! = $error if $error; $last = $error == ECONNREFUSED || $error == 0 ? 'refused' : "failed $!";
    # The other side may not be listening yet.
    return (undef, $last) if $last ne 'refused' || $once || now() >= $until; pause(0.05) } }
sub greet { my ($handle, $until) = @_;
  write_all($handle, pack('NN', 8, 80877103), $until) or return 'other';
  my $word = read_exactly($handle, 1, $until) // ''; return { S => 'tls', N => 'plain', P => 'listener' }->{$word} // 'other' }
sub enter { my ($handle, $until) = @_; write_all($handle, "$token_out\n", $until) or return undef; return read_line($handle, $until) }
sub ask { my ($handle, $how) = connect_to($host, $to_port, $begun + $CONNECT); say_it('port', $how);
  if ($handle) { my $until = now() + 2; my $who = greet($handle, $until); say_it('answer', $who);
    say_it('source', name_of(getsockname $handle));
    if ($who eq 'listener') { my $seen = enter($handle, $until); say_it('seen', $seen) if defined $seen; write_all($handle, 'q', $until) }
    close $handle }
  my ($side, $reached); my $end = $begun + $CONNECT + 2;
  do { for my $try (split /,/, $to_sides) { ($side, $how) = connect_to($host, $try, $end, 1); $reached = $how; next unless $side;
      my $until = now() + 2; my $seen = greet($side, $until) eq 'listener' ? enter($side, $until) : undef;
      if (defined $seen) { say_it('seen', $seen); last } close $side; undef $side; $reached = 'failed another program listens there' }
    pause(0.05) unless $side } while (!$side && $reached eq 'refused' && now() < $end);
  say_it('side', $reached); return unless $side;
  say_it('source', name_of(getsockname $side));
  my ($until, @times) = (now() + 4); my $text = 'x' x 63;
  for (1 .. 20) { my $sent = now(); write_all($side, "e$text", $until) or last; defined read_exactly($side, 64, $until) or last; push @times, 1000 * (now() - $sent) }
  if (@times) { my @sorted = sort { $a <=> $b } @times; my $sum = 0; $sum += $_ for @times;
    say_it('echo', map { sprintf '%.3f', $_ } $sorted[0], $sum / @times, $sorted[-1]) }
  my %info = tcp_info($side); say_it('segments', $info{segments}, $info{retransmits}) if %info; say_it('mtu', $info{mtu}) if %info;
  return unless $limit > 0;
  setsockopt $side, IPPROTO_TCP, 25, 131072; # TCP_NOTSENT_LOWAT
  $end = now() + $limit; my ($block, $left) = ("\0" x 65536, $ENOUGH); write_all($side, 't', $end) or return;
  # What the kernel has not sent yet is kept short, so that a slow way is not busy for longer; a fast one is known after less.
  while ($left > 0 && now() < $end) { last unless ready($side, 1, $end); my $n = syswrite $side, $block;
    last if !defined $n && !$!{EINTR} && !$!{EAGAIN}; $left -= $n // 0 }
  shutdown $side, 1; my $told = read_line($side, now() + 4); say_it('throughput', $told) if defined $told }

my (@doors, $error);
for my $ip (split /,/, $listen) {
  my ($door, $why) = bound($ip, $port); if ($door) { push @doors, $door } else { $error = $why unless $why =~ /in use/ }
  for my $side (split /,/, $sides) { my ($door) = bound($ip, $side); if ($door) { push @doors, $door; last } } }
say_it('listen', $error) if defined $error;
# Whatever happens to the connection that started this, it ends.
$SIG{ALRM} = sub { exit 1 }; $SIG{PIPE} = 'IGNORE'; alarm $DEADLINE + 1;
my $child = 0;
if (@doors && length $token_in) { $child = fork; defined $child or $child = 0;
  if ($child == 0) { close STDOUT; alarm $DEADLINE + 1; answer(@doors); exit 0 } }
close $_ for @doors;
ask() if defined $host;
waitpid $child, 0 if $child;
print "end\n";
PERL
)
perl -e "$program" -- "$@"
}
main "$@" </dev/null
