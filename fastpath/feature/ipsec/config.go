// Package ipsec is ESP (RFC 4303) in tunnel and transport mode behind an SPD and
// a SAD (RFC 4301), with the algorithms of sal: AES-GCM, AES-CBC, AES-CTR and NULL with
// HMAC, ChaCha20-Poly1305. It fails closed: where a policy says protect and no SA can
// do it, the packet is dropped under a name.
package ipsec

import (
	"log/slog"
	"net/netip"
	"time"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/esp"
	"vrouter/pkg/sal"
)

// Action of a policy.
type Action uint8

// The actions (RFC 4301 section 4.4.1).
const (
	Protect Action = iota
	Bypass
	Discard
)

// Mode is what ESP protects (RFC 4301 section 4.1).
type Mode uint8

// The modes.
const (
	// Tunnel protects whole IP packets, each inside another one between the ends of
	// the SA.
	Tunnel Mode = iota
	// Transport protects what IP packets carry, behind their own headers. It is for
	// packets from and to the vRouter itself only: a packet that is merely forwarded
	// never gets into such an SA, nor out of one.
	Transport
)

// PortRange is inclusive at both ends.
type PortRange struct{ First, Last uint16 }

// Selector is a traffic selector seen from the vRouter: Local is the own side
// (source of outbound, destination of inbound packets).
type Selector struct {
	Local, Remote netip.Prefix // same family, host bits zero
	// Proto is the inner protocol; negative: any.
	Proto int16
	// LocalPorts and RemotePorts restrict TCP, UDP, UDP-Lite, SCTP and DCCP; empty:
	// any. Where Proto is ICMP (1, in IPv4) or ICMPv6 (58, in IPv6) they are of 256 *
	// type + code (RFC 4301 section 4.4.1.1, RFC 7296 section 3.13.1), and a message
	// must be in those of both that are not empty.
	LocalPorts, RemotePorts []PortRange
}

// Policy is one SPD entry. Name is its key.
type Policy struct {
	Name      string
	Direction sal.Direction
	// Order places the entry in the SPD: the first match counts, lowest first.
	Order    uint64
	Action   Action
	ReqID    uint64 // Protect: which SAs may do it
	Mode     Mode   // Protect: theirs
	Selector Selector
	// LocalTunnel and RemoteTunnel are the outer addresses a Protect policy
	// wants; an SA must have the same. Neither is valid: any, as it must be with
	// Transport.
	LocalTunnel, RemoteTunnel netip.Addr
}

// OffloadPolicy says what happens when the wanted offload cannot be had.
type OffloadPolicy uint8

// The policies.
const (
	Prefer  OffloadPolicy = iota // fall back to software, visibly
	Require                      // refuse the commit
)

// DF is how the outer header gets its Don't Fragment flag (RFC 4301 section 8.1).
type DF = esp.DF

// The ways.
const (
	CopyDF  = esp.CopyDF  // the inner packet's; set around IPv6
	ClearDF = esp.ClearDF // outer packets may be fragmented
	SetDF   = esp.SetDF
)

// Fragmentation says where a packet is cut that does not fit with ESP around it
// and may be: one of IPv4 without DF. In all cases inner IPv6 packets of up to 1280
// octets are cut behind the encryption where there is no other way (RFC 2473
// section 7.1 b), and those of SAs whose selectors name ports, which fragments do
// not show.
type Fragmentation uint8

// The places.
const (
	// BeforeEncryption cuts the inner packet, so that the peer need not put ESP
	// packets together. What may not be cut is refused with an ICMP error.
	BeforeEncryption Fragmentation = iota
	// AfterEncryption cuts the outer packet, of either family, unless DF would be
	// in it (by DF, for IPv6 as if it had the flag): that is refused.
	AfterEncryption
)

// Offload is where an SA should be worked on.
type Offload struct {
	// Mode is "software", "crypto", "protocol" or "full".
	Mode   string
	Policy OffloadPolicy
	Engine string // a named engine, "" for any
}

// Secret is key material. It never prints itself.
type Secret []byte

// String hides the secret.
func (Secret) String() string { return "(secret)" }

// GoString hides the secret.
func (Secret) GoString() string { return "(secret)" }

// LogValue hides the secret.
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// SA is one SAD entry. Name is its key. A Set with the same cryptographic
// identity keeps the live sequence number, replay window and counters, under
// whatever name; any other replaces the SA. Outbound, that identity is algorithm
// and key (with the salt) where they give the nonces: no two outbound SAs may
// have the same at a time, and AES-CTR and AES-GCM are one algorithm in this.
// Inbound, and with AES-CBC and NULL, it is the SPI and the key of integrity as
// well.
//
// DSCP is never copied inwards (RFC 4301 section 5.1.2.1), and ECN goes both ways
// as RFC 6040 says.
type SA struct {
	Name      string
	ReqID     uint64
	SPI       uint32
	Direction sal.Direction
	Algorithm sal.Algorithm
	Integrity sal.Integrity // beside an Algorithm that is no AEAD
	// Key is cipher key and salt, IntegrityKey that of Integrity, as
	// sal.SAConfig's.
	Key, IntegrityKey Secret
	ESN               bool
	// ReplayWindow is how many packets the replay window of an inbound SA holds,
	// 32 to 8192; 0 is off, which cannot be had with ESN.
	ReplayWindow uint32
	// Mode says what the SA protects. With Transport there is no outer header: Local
	// and Remote are the addresses of the packets themselves, the selector has these
	// two and no others, and the fields that are about an outer header or about what
	// is forwarded stay zero: DF, Fragmentation, MSS, DSCP, FollowPeer. Packets that do
	// not fit are cut behind the encryption.
	Mode Mode
	// DF is what the outer IPv4 header has.
	DF            DF
	Fragmentation Fragmentation
	// MSS is to what the segment size is clamped that TCP SYNs announce which go
	// into the SA or come out of it; ClampPath goes by what fits into its packets.
	MSS pipeline.MSS
	// IgnoreICMP: the path is taken to have the first link's MTU, whatever ICMP
	// errors about outer packets say.
	IgnoreICMP bool
	// DSCP is the outer DSCP for each of the 64 inner ones; nil: the same.
	DSCP []uint8
	// Local and Remote are the outer addresses, Local being the vRouter's.
	Local, Remote netip.Addr
	// UDP puts ESP into UDP (RFC 3948) between these ports; the zero UDP is none.
	// An SA with it takes no bare ESP, and one without none in UDP.
	UDP UDP
	// FollowPeer: the peer may come to have another address and port, as a NAT on
	// the way gives it. Inbound, a genuine packet from there with the highest
	// number so far tells (RFC 7296 section 2.23); outbound, packets go to where
	// the inbound SAs between the same Local, Remote and UDP say the peer is.
	FollowPeer bool
	// KeepAlive is after how many seconds in which an outbound SA has sent nothing
	// a NAT keep-alive goes to the peer (RFC 3948 section 4); 0: never.
	KeepAlive uint32
	Selector  Selector
	Offload   Offload
	// TenantGroup names the Group whose quotas the SA uses, "" for none.
	TenantGroup string
	// SeqReport is after how many sequence numbers it is told of that they are used,
	// inbound that they came; 0: never. The control side looks once a second.
	SeqReport uint64
	// Soft says when the SA is due to be replaced, Hard when it ends. What is
	// told of by events happens once, but for Soft.Idle. An SA that has ended
	// carries nothing until it is given other lifetimes, or another key: as
	// with sequence numbers, it is the key that has lived.
	Soft, Hard Lifetime
	SoftAction SoftAction
}

// UDP is the ports of ESP in UDP: the vRouter's and the peer's.
type UDP struct{ Local, Remote uint16 }

// Lifetime limits the use of an SA. 0 is no limit.
type Lifetime struct {
	Time    uint32 // seconds since the SA was made
	Bytes   uint64 // of inner IP packets; of what packets carry, with Transport
	Packets uint64
	Idle    uint32 // seconds since the last packet, or since it was made
}

// SoftAction says what happens at a soft lifetime, beside telling of it. There
// is none that lets packets pass in the clear.
type SoftAction uint8

// The actions.
const (
	Replace       SoftAction = iota // the SA goes on until it is replaced
	TerminateHold                   // the SA ends
)

// Group is a tenant group: what its SAs may use together. Name is its key. 0 is no
// limit.
type Group struct {
	Name   string
	MaxSAs uint32
	// Packets and Bytes are how many in a second, over all SAs of both directions; octets
	// are those of ESP packets with their outer IP header. What was not used lately may
	// be used at once: as much as comes in 100 ms, but 32 packets or 65536 octets at
	// the least.
	Packets, Bytes uint64
}

// ObjectKey is the key as text, as inventories and refusals give it.
func (g Group) ObjectKey() string { return g.Name }

// GroupUse is what the SAs of a group have used.
type GroupUse struct {
	Packets, Bytes uint64 // as in Group: those that were let through
	Dropped        uint64 // packets above the quotas
}

// GroupState is a tenant group as it is. It counts from when it was set first.
type GroupState struct {
	Name string
	SAs  int
	GroupUse
}

// Change is what a commit does to IPsec.
type Change struct {
	SetGroup     []Group
	DeleteGroup  []string
	SetPolicy    []Policy
	DeletePolicy []string
	SetSA        []SA
	DeleteSA     []string
}

// SAState is one SA as it is. It holds no key.
type SAState struct {
	Name      string
	SPI       uint32
	Direction sal.Direction
	AddedAt   int64 // Unix nanoseconds
	UsedAt    int64 // last packet, Unix nanoseconds, 0 never
	// Age is the time since AddedAt, Idle that since UsedAt, or AddedAt where it
	// was never used; no setting of clocks changes them.
	Age, Idle time.Duration
	// Expired says what the SA has reached of its lifetimes: soft-time,
	// soft-bytes, soft-packets, soft-idle, hard-time and so on,
	// sequence-numbers-low, sequence-numbers. Ended tells whether it carries
	// nothing for it.
	Expired []string
	Ended   bool
	Packets uint64
	Bytes   uint64 // as in Lifetime
	Seq     uint64 // last used (outbound) or top of the window (inbound)
	Window  uint32 // packets, 0: off
	Bitmap  uint64 // the newest 64 of the window, bit i = Seq-i seen; 0 without one
	Late    []Late // inbound: how late packets came, the punctual first; those that none did are left out
	// Outbound: what outer packets may have now (the first link's MTU, or what ICMP
	// told) and what inner ones; 0: there is no way to the peer. PathMTU is what was
	// learnt, 0: nothing, and PathLeft for how long it still counts.
	OuterMTU, InnerMTU, PathMTU uint32
	PathLeft                    time.Duration

	Replayed uint64 // dropped as replayed or late
	Failed   uint64 // dropped for a bad ICV
	Errors   []Error
	Engine   string // placement
	Mode     string
	Reason   string // why there
	AsWanted bool   // Offload is met, and it carries packets
	// Peer is where the peer of an SA with UDP encapsulation is at present; its
	// own Remote, unless the SA follows its peer. MovedAt is since when, Unix
	// nanoseconds, 0 for ever.
	Peer    netip.AddrPort
	MovedAt int64
}

// Late counts packets by how far their sequence number was behind the highest so
// far.
type Late struct {
	From, To uint64 // numbers behind, both inclusive; 0: ahead. To is 0 without an end
	Packets  uint64 // accepted
	// Dropped is how many the window was too small for. Nobody has proved them
	// genuine: whoever can send to the router can make such packets.
	Dropped uint64
}

// Error is one drop reason's count.
type Error struct {
	Reason  string
	Packets uint64
}

// PolicyState is one SPD entry's counters.
type PolicyState struct {
	Name           string
	Packets, Bytes uint64
}

// ObjectKey is the key as text, as inventories and refusals give it.
func (p Policy) ObjectKey() string { return p.Name }

// ObjectKey is the key as text, as inventories and refusals give it.
func (s SA) ObjectKey() string { return s.Name }
