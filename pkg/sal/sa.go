package sal

import (
	"net/netip"

	"vrouter/pkg/esp"
)

// Direction of an SA.
type Direction uint8

// The directions.
const (
	Inbound Direction = iota
	Outbound
)

// SAConfig is an SA as given to an engine: what RFC 9061's SAD entry and
// rte_security's options hold, as far as an engine needs it.
type SAConfig struct {
	SPI       uint32
	Direction Direction
	Mode      Mode
	Algorithm Algorithm
	Integrity Integrity // NoIntegrity for an AEAD, something for all others
	// Key is the cipher key followed by the salt (see Shape): 20, 28 or 36 bytes
	// for AES-GCM. Never logged, never read back.
	Key []byte
	// IntegrityKey is the key of Integrity, as long as its hash. A secret like
	// Key.
	IntegrityKey []byte
	ESN          bool

	// The rest is for ModeProtocol, which is tunnel mode of ESP.

	// ReplayWindow in packets, 32 to 8192, 0 off; for inbound SAs.
	ReplayWindow uint32
	// Local and Remote are the outer addresses, of one family: Local is ours, the
	// source of what an outbound SA makes, the destination of what comes to an
	// inbound one.
	Local, Remote netip.Addr
	// LocalPort and RemotePort put ESP into UDP (RFC 3948); both 0: bare ESP.
	LocalPort, RemotePort uint16
	// DF is how an outer IPv4 header gets its flag, DSCP the outer DSCP for each of
	// the 64 inner ones, nil: the same. ECN is as in RFC 6040.
	DF   esp.DF
	DSCP []uint8
	// Soft is told of (Soft, EventSoftPackets, EventSoftBytes), at Hard packets get
	// StatusExpired; what is 0 is no limit.
	Soft, Hard Lifetime
	// SeqReport is after how many numbers there is an EventSeqPeriodic; 0: never.
	SeqReport uint64
	// State is where the SA goes on from; zero for one that is new. With Held it
	// carries nothing until ModSA gives it another State.
	State SAState
	Held  bool
}

// Lifetime limits the use of an SA in ModeProtocol; 0 is no limit. Outbound, it is
// sequence numbers that count as packets, one that was skipped included. Bytes are
// those of inner IP packets.
type Lifetime struct{ Packets, Bytes uint64 }

// SAState is what packets change of an SA in ModeProtocol.
type SAState struct {
	// Seq is the last sequence number used (outbound), or the top of the window
	// (inbound).
	Seq uint64
	// SeqLimit is the last number that an outbound SA may use for now: beyond it
	// packets get StatusHeld, until ModSA allows more. Whoever has written it down
	// knows, whatever becomes of the engine, from where on no number was used. 0: all
	// there are.
	SeqLimit uint64
	// Window is the replay bitmap of an inbound SA, bit i%64 of word i/64 = Seq-i
	// seen. What no word tells of counts as seen, up to Seq.
	Window []uint64
	// Packets and Bytes count towards lifetimes: packets that were given a number,
	// or, inbound, accepted. For an inbound SA Packets is what Lifetime.Packets limits.
	Packets, Bytes uint64
}

// SAMod changes a live SA in ModeProtocol; nil fields stay.
type SAMod struct {
	// SeqLimit moves that of SAState. A lower one than before may come too late.
	SeqLimit *uint64
	// State replaces the SA's whole state, and ends its being held. Only for a held
	// SA: ErrInvalid else.
	State *SAState
}

// SAInfo is an SA without its key.
type SAInfo struct {
	SA        SA
	Group     Group
	SPI       uint32
	Direction Direction
	Mode      Mode
	Algorithm Algorithm
	Integrity Integrity
	KeyBits   int
	ESN       bool
}

// SAStats are an SA's counters in the engine since it was added.
type SAStats struct {
	// Packets and Bytes were done well; bytes are those of text, in ModeProtocol of
	// inner IP packets.
	Packets, Bytes uint64
	Errors         [16]uint64 // jobs that failed, by Status
}
