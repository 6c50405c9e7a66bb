package sal

// PortConfig opens a port.
type PortConfig struct {
	Name   string // the interface's name in the configuration
	Device string // kernel device, or what the driver calls its own
	Queues int
	MTU    int     // largest IP packet in bytes, at most MaxMTU; a kernel device is set to it; frames are up to MTU + 18
	MAC    [6]byte // zero: the device's own, or one that depends on its name alone
	Params PortParams
}

// PortParams are what only some drivers know; the others ignore what is not
// theirs.
type PortParams struct {
	// Copy forbids af-xdp to let the device work in the packet buffers.
	Copy bool
	// Blocks has af-packet receive by the block (TPACKET_V3), which costs less
	// and comes later.
	Blocks bool
	// Ring is how many received frames a queue of af-packet or af-xdp has room
	// for in the kernel; 0: the driver's choice.
	Ring uint32
	// Read and Write are what pcap reads from and writes to: the path of a
	// capture file, "" for nothing.
	Read, Write string
	// FlatOut makes pcap replay as fast as it can, not in the capture's time.
	FlatOut bool
	// Repeat is how often pcap replays the capture, 0 for ever.
	Repeat uint32
}

// PortInfo describes an open port.
type PortInfo struct {
	Name, Driver, Device string
	Queues               int
	// RxQueues is how many of these receive, from the first on, where that is not
	// all; 0: all.
	RxQueues int
	MAC      [6]byte
	IfIndex  int    // of the kernel device, 0 when there is none
	Speed    uint64 // bit/s, 0 unknown
	// Shared tells that somebody else receives the frames too: the kernel's
	// own network stack, which could answer or forward beside the vRouter.
	Shared bool
	// Mode is how the frames come, where a driver has several ways: ModeCopy
	// and so on; "" where there is but one.
	Mode string
	// Why tells, in words, what stood against a better mode; "" when nothing did.
	Why string
}

// The modes of ports.
const (
	ModeZeroCopy = "zero-copy" // the device works in the packet buffers
	ModeCopy     = "copy"      // the kernel copies between its buffers and these
	ModeGeneric  = "generic"   // as copy, behind the kernel's own receive path: a device without support for XDP
)

// PortStats are what the device itself counts or loses; the fast path counts
// packets and bytes on its own.
type PortStats struct {
	RxDropped uint64 // lost before the fast path saw them (ring full)
	TxDropped uint64 // accepted by TxBurst, refused by the device
	RxErrors  uint64 // malformed at the device: truncated, larger than the MTU
	RxUncut   uint64 // super-frames of a local sender that could not be cut to the MTU
	TxErrors  uint64
}

// A Port moves frames (from the Ethernet header on, without FCS) between a
// device and the pool. Its methods may be called from any goroutine.
type Port interface {
	Info() PortInfo
	// Queue gives queue i, for the use of one goroutine.
	Queue(i int) PortQueue
	// Link tells whether the device can pass packets now: it is there, both
	// ends of its cable are up. The answer may be some milliseconds old.
	Link() bool
	// SetUp sets the administrative state, of a kernel device too. A port is
	// opened down; while down it receives nothing, and what it is given to send
	// is freed and counted.
	SetUp(bool) error
	Stats() PortStats
	// Close gives up the device; buffers the port holds go back to the pool.
	// No queue may be in use. A second Close does nothing.
	Close() error
}

// A Loser is a port that can lose its device for good: removed, moved to another
// network namespace. Once Lost says so it says so for ever, the port moves
// nothing any more, and only Close is left; a device that comes back wants a
// new Open. A port that finds such a device by itself is never lost.
type Loser interface{ Lost() bool }

// A QueueAdder is a port that can have more queues than it was opened with, while
// those it has are in use. Nothing that is under way is lost by it, but a flow may
// come in by another queue afterwards. Where there are too few queues for all
// workers they hand frames to each other, so it may refuse. Queues are not taken
// away again: what lies in one would be lost, and one worker can have several.
type QueueAdder interface {
	// AddQueues gives the port n queues in all, if it has fewer. With an error it
	// has what Info says. It is called in the network namespace that Open was.
	AddQueues(n int) error
}

// An MTULimiter is a driver whose ports take a smaller MTU than MaxMTU.
type MTULimiter interface{ MaxMTU() int }

// A PortQueue is one goroutine's part of a port. No call blocks or allocates.
type PortQueue interface {
	// RxBurst receives up to len(d) frames into buffers taken from c and hands
	// them to the caller. Frames lie at Headroom or behind it, in a large buffer
	// where an ordinary one has not the room.
	RxBurst(c *Cache, d []Desc) int
	// TxBurst takes the first n frames, which now belong to the port; the rest
	// stay the caller's. A frame may lie in a large buffer whatever its length.
	// Buffers of frames sent go back through c, now or in a later call.
	TxBurst(c *Cache, d []Desc) (n int)
	// Wake is a descriptor that poll(2) finds readable when frames wait to be
	// received, -1 when the queue can only be polled.
	Wake() int
	// Held counts the buffers that the queue holds at the moment, for
	// accounting.
	Held() int
}

// A Driver opens ports of one kind.
type Driver interface {
	Name() string // af-packet, tap, memory, …
	// Open opens a port, down. A device that somebody has open already gives
	// ErrBusy, one that is not there ErrNotFound, one of the wrong kind
	// ErrNotSupported; what of the config is wrong by itself, ErrInvalid.
	Open(cfg PortConfig, pool *Pool) (Port, error)
}
