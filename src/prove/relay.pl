use strict;
use Socket qw(:DEFAULT getaddrinfo AI_NUMERICHOST);

my ($kind, $host, $port) = @ARGV;
my $say = sub { syswrite STDOUT, "$_[0]\n"; exit 0 };
binmode STDIN;
binmode STDOUT;
$SIG{PIPE} = 'IGNORE';
if (!defined $kind) {
  # It stays for as long as a session would.
  syswrite STDOUT, "connected\n";
  1 while sysread STDIN, my $data, 4096;
  exit 0;
}

my ($family, $name) = (AF_UNIX, undef);
if ($kind eq 'unix') {
  $name = eval { pack_sockaddr_un($host) };
  $say->("! $host is too long for the name of a socket") unless defined $name;
} else {
  my ($error, $first) = getaddrinfo($host, $port, { flags => AI_NUMERICHOST, socktype => SOCK_STREAM });
  $say->("! $host: $error") if $error;
  ($family, $name) = ($first->{family}, $first->{addr});
}
my $socket;
socket($socket, $family, SOCK_STREAM, 0) && connect($socket, $name) or $say->("! $host: $!");
syswrite STDOUT, "connected\n";

my %other = (fileno(STDIN) => $socket, fileno($socket) => \*STDOUT);
my @ends = (\*STDIN, $socket);
while (1) {
  my $ready = '';
  vec($ready, fileno($_), 1) = 1 for @ends;
  next if select($ready, undef, undef, undef) < 0;
  for my $end (@ends) {
    next unless vec($ready, fileno($end), 1);
    # Whichever ends first ends both.
    my $bytes = sysread($end, my $data, 65536);
    next if !defined $bytes && $!{EINTR};
    exit 0 unless $bytes;
    for (my $at = 0; $at < $bytes; ) {
      my $written = syswrite($other{fileno $end}, $data, $bytes - $at, $at);
      next if !defined $written && $!{EINTR};
      exit 0 unless defined $written;
      $at += $written;
    }
  }
}
