# Lets servers tell each other from which address their connections come, where a router may translate it. It changes
# nothing; what it listens with is gone after two seconds at the latest. Arguments:
#   PORT EXPECTED (how many servers will call), then groups: listen ADDRESS, call NAME ADDRESS PORT
# A server whose instance does not run yet listens on the instance's port and tells each caller its address. A running
# instance says it too: the address stands in the error with which it turns an unknown role away.
# It answers with the probe's records: seen.NAME with the address under which NAME saw this server.
main() {
export LC_ALL=C
cd / || exit 1
if ! command -v perl >/dev/null 2>&1; then
  shift 2
  while [ $# -gt 0 ]; do
    case $1 in
      call) printf '#seen.%s ! there is no perl\n' "$2"; shift 4 ;;
      *) shift 2 ;;
    esac
  done
else
  perl - "$@" <<'PERL'
use strict;
use Socket;
use IO::Select;
use IO::Socket::IP;
use Time::HiRes qw(time);

my ($port, $expected) = splice @ARGV, 0, 2;
my $deadline = time + 2;
$SIG{PIPE} = 'IGNORE';
my (@listeners, @calls);
while (@ARGV) {
  my $word = shift @ARGV;
  if ($word eq 'listen') {
    my $listener = IO::Socket::IP->new(
      LocalHost => shift @ARGV, LocalPort => $port, Type => SOCK_STREAM, Listen => 16, ReuseAddr => 1, V6Only => 1);
    push @listeners, $listener if $listener;
  } else {
    push @calls, [splice @ARGV, 0, 3];
  }
}

# A process for each call; it writes one line.
my $select = IO::Select->new(@listeners);
my (%name, %said);
for my $call (@calls) {
  my ($name, $address, $peer_port) = @$call;
  my $pid = open(my $child, '-|');
  next unless defined $pid;
  if (!$pid) {
    close $_ for @listeners;
    print ask($address, $peer_port), "\n";
    exit 0;
  }
  $name{$child} = $name;
  $select->add($child);
}
my ($waiting, $heard) = (scalar @calls, 0);
while (time < $deadline + 0.2 && ($waiting > 0 || (@listeners && $heard < $expected && time < $deadline))) {
  for my $ready ($select->can_read(0.05)) {
    if (defined $name{$ready}) {
      my $line = <$ready>;
      $said{$name{$ready}} = defined $line ? $line : '! no answer';
      chomp $said{$name{$ready}};
      $select->remove($ready);
      close $ready;
      $waiting--;
    } elsif (my $caller = $ready->accept) {
      my $address = $caller->peerhost;
      syswrite $caller, "pgstead-meet $address\n";
      close $caller;
      $heard++;
    }
  }
}
for my $call (@calls) {
  my $name = $call->[0];
  my $line = defined $said{$name} ? $said{$name} : '! no answer within 2 s';
  if ($line =~ /^!/) { printf "#seen.%s %s\n", $name, $line } else { printf "#seen.%s %d\n%s\n", $name, length $line, $line }
}

# The peer may not listen yet: it is asked again every 20 ms.
sub ask {
  my ($address, $port) = @_;
  my $why = 'not tried';
  while (time < $deadline) {
    my $socket = IO::Socket::IP->new(PeerHost => $address, PeerPort => $port, Type => SOCK_STREAM, Timeout => 1);
    if (!$socket) {
      $why = "$@" || "$!";
      select undef, undef, undef, 0.02;
      next;
    }
    my $body = pack('N', 196608) . "user\0pgstead_meet\0database\0pgstead_meet\0\0";
    syswrite $socket, pack('N', 4 + length $body) . $body;
    my ($answer, $bytes) = ('', 0);
    my $reader = IO::Select->new($socket);
    while (length $answer < 4096 && $reader->can_read($deadline - time > 0 ? $deadline - time : 0)) {
      $bytes = sysread $socket, $answer, 4096, length $answer;
      last unless $bytes;
    }
    return $1 if $answer =~ /^pgstead-meet (\S+)/;
    return $1 if $answer =~ /^E/ && $answer =~ /"((?:\d+\.){3}\d+|[0-9a-fA-F:]*:[0-9a-fA-F:.]+)"/;
    return '! it listens and does not say whom it sees' if $answer ne '';
    $why = 'it listens and says nothing';
    select undef, undef, undef, 0.02;
  }
  $why =~ s/\s+/ /g;
  return "! $why";
}
PERL
fi
printf '#end 2\nok\n'
}
main "$@"
