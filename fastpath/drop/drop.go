// Package drop names every reason for which a packet dies. A packet that does
// not leave the vRouter is counted here exactly once, under one reason and the
// interface on which it came in. The tables of NETCONF and of the command line
// are printed from Table, so adding a reason is adding a line here.
package drop

// Reason is why a packet died. 0 is not a reason.
type Reason uint8

// Severity says how much a reader should worry.
type Severity uint8

// The severities.
const (
	Normal   Severity = iota // happens in a healthy network
	Config                   // somebody's configuration is wrong or incomplete
	Attack                   // may be an attack, or a broken peer
	Resource                 // the vRouter or a device had no room
	Fault                    // something is broken
)

// String is the severity as it is shown.
func (s Severity) String() string {
	return [...]string{"normal", "config", "attack?", "resource", "fault"}[s]
}

// The reasons. The order is not part of any interface; the names are.
const (
	None Reason = iota

	// iface
	RxTooShort
	RxTooBig
	RxVLAN
	RxEtherType
	RxOtherMAC
	FamilyOff
	Unconfigured

	// IP headers
	IPVersion
	IPHeaderLength
	IPLength
	IPChecksum
	IPSource
	IPSourceOwn
	IPReversePath
	IPDestination
	IPMulticast
	IPBroadcast
	IPLinkLocal
	IPExtension
	IPSourceRoute
	IPOption

	// reass
	ReassTimeout
	ReassOverlap
	ReassDuplicate
	ReassFull
	ReassTooBig

	// route
	TTLExpired
	NoRoute
	Blackhole
	Unreachable
	Prohibited
	ForwardingOff
	TooBig
	NotFragmented
	LocalTCP
	LocalUDP
	LocalProtocol
	LocalFragment
	ICMPBad
	ICMPIgnored
	ICMPUnproven
	NoSource
	AddrTentative

	// neigh
	ARPBad
	ARPIgnored
	NDBad
	NDIgnored
	NeighFailed
	NeighLimited
	NeighWaitFull
	NeighTableFull
	ControlFull

	// tx
	TxDown
	TxFull
	TxNoPort

	// ipsec
	ESPNoSA
	ESPReplay
	ESPLate
	ESPBadICV
	ESPShort
	ESPBadPad
	ESPBadNext
	ESPSeqOverflow
	ESPSeqStale
	ESPNoRoom
	ESPFragment
	ESPDummy
	ESPBadECN
	ESPExpired
	ESPEncapsulation
	ESPQuota
	NATKeepAlive
	IPsecNoSA
	IPsecPolicyDiscard
	IPsecUnprotected
	IPsecPolicyMismatch
	IPsecOpaque
	IPsecTransit
	IPsecFragment
	SALDevice
	SALQueueFull

	// the pipeline itself
	NoBuffer
	NoLargeBuffer
	LoopFull
	HandoffFull
	Shutdown

	N // how many
)

// Info describes a reason.
type Info struct {
	Name     string
	Severity Severity
	Text     string // a sentence
}

// Table describes every reason.
var Table = [N]Info{
	None: {"none", Fault, "A packet was dropped without a reason: a bug."},

	RxTooShort:   {"rx-too-short", Attack, "Frame too short for its headers."},
	RxTooBig:     {"rx-too-big", Config, "Frame larger than the interface's MTU."},
	RxVLAN:       {"rx-vlan", Config, "Frame with a VLAN tag, which no interface is configured for."},
	RxEtherType:  {"rx-ethertype", Normal, "Frame of a type that the vRouter does not speak."},
	RxOtherMAC:   {"rx-other-mac", Normal, "Frame for the MAC address of somebody else."},
	FamilyOff:    {"family-off", Config, "IP packet of a family that is not enabled on the interface."},
	Unconfigured: {"unconfigured", Config, "The interface was removed or shut while the packet was inside."},

	IPVersion:      {"ip-version", Attack, "Version in the IP header contradicts the frame's type."},
	IPHeaderLength: {"ip-header-length", Attack, "IPv4 header length below 5 words or beyond the packet."},
	IPLength:       {"ip-length", Attack, "IP length field beyond the end of the frame or below the header."},
	IPChecksum:     {"ip-checksum", Fault, "IPv4 header checksum is wrong."},
	IPSource:       {"ip-source", Attack, "Source address that no packet may have (multicast, broadcast, loopback, unspecified, reserved)."},
	IPSourceOwn:    {"ip-source-own", Attack, "Packet from outside with an address of the vRouter as its source."},
	IPReversePath:  {"ip-reverse-path", Attack, "Source address to which no route leads back, or none by the interface that the packet came in on (RFC 3704)."},
	IPDestination:  {"ip-destination", Attack, "Destination address that is never forwarded (loopback, unspecified, reserved)."},
	IPMulticast:    {"ip-multicast", Normal, "IP multicast, which is not forwarded, for a group that the vRouter is not in."},
	IPBroadcast:    {"ip-broadcast", Normal, "IPv4 broadcast, or a packet that came in a broadcast frame: not forwarded (RFC 1812 section 5.3.5)."},
	IPLinkLocal:    {"ip-link-local", Normal, "Link-local address that would have left its link (RFC 4291 section 2.5.6, RFC 3927 section 7)."},
	IPExtension:    {"ip-extension", Attack, "IPv6 extension headers that are malformed or too many."},
	IPSourceRoute:  {"ip-source-route", Attack, "IPv4 source route option (RFC 7126 section 4.3), or IPv6 routing header of type 0 (RFC 5095)."},
	IPOption:       {"ip-option", Attack, "Malformed IPv4 option, or an IPv6 option or routing header that may not be passed over (RFC 8200 section 4.2)."},

	ReassTimeout:   {"reassembly-timeout", Normal, "Fragment whose datagram did not become whole in time."},
	ReassOverlap:   {"reassembly-overlap", Attack, "Fragment of a datagram whose fragments overlap or contradict each other (RFC 5722)."},
	ReassDuplicate: {"reassembly-duplicate", Normal, "Fragment that was there already, byte for byte."},
	ReassFull:      {"reassembly-full", Resource, "Fragment that gave way to newer ones, or one of too many of its datagram."},
	ReassTooBig:    {"reassembly-too-big", Config, "Fragment of a datagram that is larger than 65 521 bytes, or than an IP packet can be."},

	TTLExpired:    {"ttl-expired", Normal, "TTL or hop limit used up."},
	NoRoute:       {"no-route", Config, "No route to the destination."},
	Blackhole:     {"blackhole", Normal, "The route says: drop silently."},
	Unreachable:   {"unreachable", Normal, "The route says: unreachable."},
	Prohibited:    {"prohibited", Normal, "The route says: administratively prohibited."},
	ForwardingOff: {"forwarding-off", Config, "Forwarding is off for this family on the interface where the packet came in."},
	TooBig:        {"too-big", Normal, "Larger than the MTU towards the destination, and not to be fragmented."},
	NotFragmented: {"not-fragmented", Fault, "Should have been fragmented, but could not be (options that do not fit)."},
	LocalTCP:      {"local-tcp", Normal, "TCP to an own address; nothing listens there."},
	LocalUDP:      {"local-udp", Normal, "UDP to an own address; nothing listens on the port."},
	LocalProtocol: {"local-protocol", Normal, "Protocol to an own address that nothing speaks."},
	LocalFragment: {"local-fragment", Normal, "Fragment to an own address that is not reassembled."},
	ICMPBad:       {"icmp-bad", Attack, "ICMP message that is too short or has a wrong checksum."},
	ICMPIgnored:   {"icmp-ignored", Normal, "ICMP message to an own address that needs no answer."},
	ICMPUnproven:  {"icmp-unproven", Attack, "ICMP says that a packet was too big, and quotes none that an SA has sent, or not lately (RFC 4301 section 8.2)."},
	AddrTentative: {"address-tentative", Normal, "Packet to an own IPv6 address that is being checked for uniqueness, or that somebody else has (RFC 4862)."},
	NoSource:      {"no-source", Config, "No own address to answer from."},

	ARPBad:         {"arp-bad", Attack, "ARP packet that is malformed."},
	ARPIgnored:     {"arp-ignored", Normal, "ARP packet that concerns somebody else."},
	NDBad:          {"nd-bad", Attack, "Neighbour discovery message that fails the checks of RFC 4861."},
	NDIgnored:      {"nd-ignored", Normal, "Neighbour discovery message that concerns somebody else."},
	NeighFailed:    {"neighbour-failed", Normal, "The next hop does not answer ARP or neighbour discovery, or has changed while the packet was on its way."},
	NeighLimited:   {"neighbour-limit", Attack, "Too many packets of one source, or by one interface, to neighbours that are not known: a scan (RFC 6583)."},
	NeighWaitFull:  {"neighbour-wait-full", Resource, "Too many packets wait for the next hop's address."},
	NeighTableFull: {"neighbour-table-full", Resource, "No room for another neighbour."},
	ControlFull:    {"control-full", Resource, "Too many packets for the control side of the fast path at once."},

	TxDown:   {"tx-down", Normal, "The outgoing interface is down."},
	TxFull:   {"tx-full", Resource, "The outgoing port takes no more packets."},
	TxNoPort: {"tx-no-port", Normal, "The outgoing interface is gone."},

	ESPNoSA:             {"esp-no-sa", Attack, "ESP for an SPI that no SA has."},
	ESPReplay:           {"esp-replay", Attack, "ESP sequence number seen already."},
	ESPLate:             {"esp-late", Attack, "ESP sequence number left of the replay window."},
	ESPBadICV:           {"esp-bad-icv", Attack, "ESP integrity check failed."},
	ESPShort:            {"esp-short", Attack, "ESP packet too short, or of a length that the algorithm cannot make."},
	ESPBadPad:           {"esp-bad-pad", Attack, "ESP padding is not what RFC 4303 prescribes."},
	ESPBadNext:          {"esp-bad-next", Attack, "ESP next header is none that the SA carries, or contradicts the inner packet."},
	ESPSeqOverflow:      {"esp-seq-overflow", Config, "The SA has no sequence number left: it must be replaced."},
	ESPSeqStale:         {"esp-seq-stale", Resource, "The SA's sequence numbers were lost with the last boot: it must be replaced."},
	ESPNoRoom:           {"esp-no-room", Resource, "No room in the buffer for the ESP headers or trailer."},
	ESPFragment:         {"esp-fragment", Config, "Fragment of an ESP packet that is not reassembled."},
	ESPBadECN:           {"esp-bad-ecn", Attack, "Congestion mark outside, inner packet not ECN-capable (RFC 6040 section 4.2)."},
	ESPDummy:            {"esp-dummy", Normal, "Dummy packet for traffic flow confidentiality (RFC 4303 section 2.6)."},
	ESPExpired:          {"esp-expired", Config, "The SA's hard lifetime is over."},
	ESPEncapsulation:    {"esp-encapsulation", Attack, "ESP in UDP for an SA without encapsulation, or bare ESP for one with it."},
	ESPQuota:            {"esp-quota", Resource, "More packets or octets than the quota of the SA's tenant group."},
	NATKeepAlive:        {"nat-keepalive", Normal, "NAT keep-alive of a peer (RFC 3948 section 2.3): it has done its work on the way."},
	IPsecNoSA:           {"ipsec-no-sa", Config, "Policy says protect, and no SA can do it."},
	IPsecPolicyDiscard:  {"ipsec-policy-discard", Normal, "Policy says discard."},
	IPsecUnprotected:    {"ipsec-unprotected", Attack, "Packet came in the clear where policy says protect."},
	IPsecPolicyMismatch: {"ipsec-policy-mismatch", Attack, "Packet came through an SA that policy does not allow for it."},
	IPsecOpaque:         {"ipsec-opaque", Config, "The fields that policy needs (ports, fragments, extension headers) cannot be seen."},
	IPsecTransit:        {"ipsec-transit", Config, "Policy says protect in transport mode, which is for packets of the vRouter itself (RFC 4301 section 4.1)."},
	IPsecFragment:       {"ipsec-fragment", Config, "Policy says protect in transport mode, which is for whole packets (RFC 4303 section 3.3.4), and this is a fragment."},
	SALDevice:           {"sal-device", Fault, "The crypto engine failed or is gone."},
	SALQueueFull:        {"sal-queue-full", Resource, "The crypto engine's queue is full."},

	NoBuffer:      {"no-buffer", Resource, "No free packet buffer."},
	NoLargeBuffer: {"no-large-buffer", Resource, "No free large buffer for a jumbo frame, or for a fragmented packet that is whole."},
	LoopFull:      {"loop-full", Resource, "Too many packets went round inside the vRouter at once."},
	HandoffFull:   {"handoff-full", Resource, "Another worker, who has the flow or the port's queue, takes no more packets."},
	Shutdown:      {"shutdown", Normal, "The fast path was stopped while the packet was inside."},
}

// Info describes r.
func (r Reason) Info() Info {
	if r >= N {
		r = None
	}
	return Table[r]
}

// String is r's name.
func (r Reason) String() string { return r.Info().Name }
