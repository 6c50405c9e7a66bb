package sal

import "net/netip"

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
	// ReplayWindow in packets, 32 to 8192, 0 off; ModeProtocol only.
	ReplayWindow uint32
	// Seq is the last sequence number used (outbound) or the top of the window
	// (inbound); ModeProtocol only.
	Seq uint64
	// Local and Remote are the outer addresses; ModeProtocol only.
	Local, Remote netip.Addr
}

// SAMod changes a live SA; nil fields stay.
type SAMod struct {
	Local, Remote *netip.Addr
	Seq           *uint64
	// Window is the replay bitmap, bit i of word i/64 = Seq-i seen.
	Window []uint64
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
	Packets, Bytes uint64     // done well; bytes of text
	Errors         [16]uint64 // by Status
}
