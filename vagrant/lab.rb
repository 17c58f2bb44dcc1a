# Reads an inventory as a lab: what its machines are like, and what can't be.
#
# `pgstead validate` judges inventories; what is refused here is what would make machines that nobody wished for: one
# message for each, before anything is made. Plain Ruby with no gems beside those of Vagrant.
require "fileutils"
require "ipaddr"
require "open3"
require "rbconfig"
require "socket"
require "yaml"

# Vagrant takes a machine's name for the beginning of another machine's identifier, which is hexadecimal, before it looks for
# the name itself: where that of c begins with b, "vagrant destroy b" destroys c. What is shorter than the identifiers that
# `vagrant global-status` shows is a name.
module PgsteadNamesAreNoIdentifiers
  SHOWN = 7

  private

  def find_by_prefix(prefix)
    super if prefix.to_s.length >= SHOWN
  end
end

class PgsteadLab
  # Shown by Vagrant as it is, without a trace.
  class Refused < Vagrant::Errors::VagrantError
    def initialize(message)
      @text = message
      super()
    end

    def error_message
      @text
    end
  end

  Server = Struct.new(:name, :address, :site, :memory_mb, :disk_gb, keyword_init: true)

  # What a server gets where the inventory says nothing, and the least with which one boots and takes a base backup.
  MEMORY_MB = 512
  MEMORY_MB_LEAST = 256
  EMULATOR_MB = 1024
  DISK_GB = 8
  DISK_GB_LEAST = 4

  # The Debian that brings PostgreSQL of a version.
  RELEASES = { 15 => "bookworm", 17 => "trixie" }.freeze
  # Boxes of the public catalogue by release, architecture and provider.
  CATALOGUE = {
    ["bookworm", "x86_64"] => { libvirt: "debian/bookworm64", virtualbox: "debian/bookworm64" },
    ["bookworm", "aarch64"] => { libvirt: "cloud-image/debian-12", virtualbox: "bento/debian-12" },
    ["trixie", "x86_64"] => { libvirt: "cloud-image/debian-13", virtualbox: "bento/debian-13" },
    ["trixie", "aarch64"] => { libvirt: "cloud-image/debian-13", virtualbox: "bento/debian-13" },
  }.freeze

  attr_reader :servers

  def initialize(path, state)
    @path = File.expand_path(path)
    @state = state
    @inventory = read
    unless @inventory["purpose"] == "lab"
      refuse "its purpose is not \"lab\"; machines with the addresses of real servers would be taken for them"
    end
    @version = @inventory.dig("postgres", "version")
    @servers = read_servers
    @network = common_network
  end

  # The name of the topology's machines and of their network, for a provider that other labs use as well.
  def name
    "pgstead-#{@inventory["topology"]}"
  end

  def prefix
    @network.prefix
  end

  def netmask
    IPAddr.new("255.255.255.255").mask(@network.prefix).to_s
  end

  # Where this machine stands in the network of the servers.
  def host_address
    @network.to_range.first(2).last.to_s
  end

  # Returns the hardware address of a server, within a range of the provider's. A machine that is made anew has the one that
  # its neighbours remember, and is reached at once.
  def hardware_address(range, server)
    range + server.address.split(".").last(3).map { |part| format("%02X", part.to_i) }.join
  end

  # Returns the box of a provider: the one that build-box made, where it is there, else one of the catalogue.
  def box(provider)
    return ENV["PGSTEAD_BOX"] if ENV["PGSTEAD_BOX"].to_s != ""
    release = RELEASES[@version]
    # A name that nobody has: Vagrant says so when a machine is to be made, and the other commands work.
    return "pgstead/postgresql-#{@version}" if release.nil?
    built = "pgstead/#{release}"
    return built if provider == :libvirt && File.directory?(File.join(boxes, built.sub("/", "-VAGRANTSLASH-")))
    CATALOGUE.dig([release, architecture], provider) || built
  end

  # What the image of a container is made with.
  def docker_build_arguments
    base = ENV["PGSTEAD_DOCKER_BASE"].to_s
    base = "debian:#{RELEASES[@version] || "sid"}" if base == ""
    ["--network=host", "--build-arg", "BASE=#{base}", "--build-arg", "POSTGRES=#{@version}"]
  end

  # Whether qemu can use the processor's own virtualisation. That /dev/kvm exists says little in a container or in a
  # machine that is virtual itself, so qemu is asked to make an empty machine with it.
  def kvm?
    return ENV["PGSTEAD_KVM"] == "yes" if ENV["PGSTEAD_KVM"].to_s != ""
    @kvm = try_kvm if @kvm.nil?
    @kvm
  end

  # Refuses, before the first machine, what this machine can't carry. `words` is Vagrant's command line.
  def check_before(words)
    return unless words.first == "up"
    named = @servers.select { |server| words.drop(1).include?(server.name) }
    wanted = (named.empty? ? @servers : named).reject { |server| made?(server) }
    check_network
    provider = words.join(" ")[/--provider[= ](\w+)/, 1] || ENV["VAGRANT_DEFAULT_PROVIDER"]
    # Containers take what they use.
    check_memory(wanted, provider) unless provider == "docker"
    public_key
  end

  # The arguments of the script `guest` for a server.
  def guest_arguments(server)
    arguments = [server.address, @version.to_s, @inventory.dig("ssh", "user") || "root", public_key(quiet: true).to_s]
    others = @servers.reject { |other| other.site == server.site }.group_by(&:site)
    others.each do |site, peers|
      ends = [server.site, site].map { |name| (@inventory.dig("sites", name, "lab") || {}) }
      rate = ends.map { |line| line["rate_mbit"] }.compact.min
      delay = ends.map { |line| line["delay_ms"] }.compact.sum
      next if rate.nil? && delay.zero?
      arguments += [rate.to_s, delay.to_s, peers.map(&:address).join(",")]
    end
    arguments
  end

  # Puts the keys of a server, lines of `ssh_host_*_key.pub`, in the place of those that were known under its address.
  def record_host_keys(server, keys)
    known_hosts = @inventory.dig("ssh", "known_hosts")
    return if known_hosts.nil?
    file = beside(known_hosts)
    FileUtils.mkdir_p(File.dirname(file))
    # Machines come up at the same time.
    File.open("#{file}.lock", File::RDWR | File::CREAT, 0o600) do |lock|
      lock.flock(File::LOCK_EX)
      lines = File.exist?(file) ? File.readlines(file).reject { |line| line.start_with?("#{server.address} ") } : []
      lines += keys.lines.map { |key| "#{server.address} #{key.split.first(2).join(" ")}\n" }
      File.write("#{file}.new", lines.join)
      File.rename("#{file}.new", file)
    end
    File.delete("#{file}.lock")
  rescue Errno::ENOENT
    # Another machine's turn has removed the lock file already.
  end

  private

  def refuse(problem)
    raise Refused, "#{@path}: #{problem}"
  end

  def read
    inventory = YAML.safe_load(File.read(@path))
    inventory.is_a?(Hash) ? inventory : refuse("this is no inventory")
  rescue Errno::ENOENT, Errno::EACCES => error
    refuse error.message.sub(/ @ .*/, "")
  rescue Psych::Exception => error
    refuse error.message.sub(/\A\(<unknown>\): /, "")
  end

  def read_servers
    all = @inventory["servers"]
    refuse "there are no servers" unless all.is_a?(Hash) && !all.empty?
    servers = all.map do |name, server|
      server = {} unless server.is_a?(Hash)
      size = (@inventory["lab"] || {}).merge(server["lab"] || {})
      Server.new(
        name: name.to_s,
        address: server_address(name, server["address"]),
        site: server["site"] || name.to_s,
        memory_mb: at_least(name, size, "memory_mb", MEMORY_MB, MEMORY_MB_LEAST),
        disk_gb: at_least(name, size, "disk_gb", DISK_GB, DISK_GB_LEAST)
      )
    end
    servers.group_by(&:address).each do |address, same|
      refuse "servers #{same.map(&:name).join(" and ")} have the same address, #{address}" if same.size > 1
    end
    servers
  end

  def server_address(name, text)
    address = IPAddr.new(text.to_s)
    return address.to_s if address.ipv4? && address.private?
    refuse "server #{name}: #{text} is no private IPv4 address, which a machine of a lab needs"
  rescue IPAddr::Error
    refuse "server #{name}: \"#{text}\" is no IPv4 address, which a machine of a lab needs"
  end

  def at_least(name, size, key, default, least)
    value = size[key] || default
    return value if value.is_a?(Integer) && value >= least
    refuse "server #{name}: #{key} is #{value}, and must be a number of at least #{least}"
  end

  # Returns the network that holds all servers, a /24 or larger.
  def common_network
    numbers = @servers.map { |server| IPAddr.new(server.address).to_i }
    prefix = 24
    prefix -= 1 while numbers.map { |number| number >> (32 - prefix) }.uniq.size > 1
    refuse "the servers' addresses have less than the first 16 bits in common, and can't be one network" if prefix < 16
    network = IPAddr.new(@servers.first.address).mask(prefix)
    taken = { network.to_range.first.to_s => "the network's own", network.to_range.last.to_s => "for all",
              network.to_range.first(2).last.to_s => "this machine's" }
    @servers.each do |server|
      use = taken[server.address]
      refuse "server #{server.name}: address #{server.address} is #{use} in #{network}/#{prefix}" if use
    end
    network
  end

  # Refuses a network in which this machine stands already, but for the end of the lab's own.
  def check_network
    Socket.getifaddrs.each do |interface|
      address = interface.addr
      next unless address&.ipv4? && @network.include?(IPAddr.new(address.ip_address))
      next if address.ip_address == host_address && @servers.any? { |server| made?(server) }
      refuse "its network #{@network}/#{@network.prefix} is in use on this machine already " \
             "(#{address.ip_address} on #{interface.name}); is another lab up?"
    end
  end

  def check_memory(wanted, provider)
    meminfo = "/proc/meminfo"
    return unless File.readable?(meminfo)
    available = File.read(meminfo)[/^MemAvailable: +(\d+) kB/, 1].to_i / 1024
    # An emulator keeps what it has translated.
    besides = provider == "virtualbox" || kvm? ? 0 : EMULATOR_MB
    needed = wanted.sum { |server| server.memory_mb + besides }
    return if needed <= available
    refuse "#{wanted.map(&:name).join(", ")} need #{needed} MB of memory, and this machine has #{available} MB left " \
           "(lab.memory_mb in the inventory)"
  end

  def try_kvm
    return false unless File.exist?("/dev/kvm")
    # Not for this user, perhaps; libvirt's qemu has it.
    return true unless File.writable?("/dev/kvm")
    machine = architecture == "aarch64" ? "virt" : "pc"
    words = ["-accel", "kvm", "-cpu", "host", "-machine", machine, "-m", "64", "-S", "-nodefaults", "-display", "none"]
    _output, status = Open3.capture2e("qemu-system-#{architecture}", *words, "-monitor", "stdio", stdin_data: "quit\n")
    status.success?
  rescue Errno::ENOENT
    # Libvirt may know another place of qemu than this user's PATH.
    true
  rescue Errno::EPIPE
    # It was gone before it was told to go.
    false
  end

  def architecture
    RbConfig::CONFIG["host_cpu"].sub("arm64", "aarch64")
  end

  def made?(server)
    !Dir.glob(File.join(@state, "machines", server.name, "*", "id")).empty?
  end

  # Returns the operator's public key. The private one is not looked at.
  def public_key(quiet: false)
    identity = @inventory.dig("ssh", "identity_file")
    files = [ENV["PGSTEAD_PUBLIC_KEY"]].compact
    files = ["#{beside(identity)}.pub"] if files.empty? && identity
    files = %w[id_ed25519 id_ecdsa id_rsa].map { |name| File.expand_path("~/.ssh/#{name}.pub") } if files.empty?
    file = files.find { |candidate| File.readable?(candidate) }
    return File.read(file).lines.first.to_s.strip if file
    refuse "there is no public key in #{files.join(" or ")}; ssh-keygen makes a pair" unless quiet
  end

  def beside(path)
    File.expand_path(path, File.dirname(@path))
  end

  def boxes
    File.join(ENV["VAGRANT_HOME"] || File.expand_path("~/.vagrant.d"), "boxes")
  end
end
