package sal

// Kind says where an engine does its work.
type Kind uint8

// The kinds of engines.
const (
	Software  Kind = iota // on the calling core
	LookAside             // elsewhere, packets go there and come back
	Inline                // on the port: full offload
)

// Mode is how an SA uses an engine (DPDK rte_security's action types, DPACC's
// usage models).
type Mode uint8

// The modes. A software engine offers ModeCrypto; the vRouter's "software"
// offload mode is ModeCrypto on an engine of Kind Software.
const (
	// ModeCrypto: the engine transforms bytes; the caller builds ESP, keeps
	// sequence numbers and the replay window.
	ModeCrypto Mode = iota
	// ModeProtocol: whole packet in, whole ESP packet out, and back; the engine
	// keeps sequence numbers, replay window and lifetimes.
	ModeProtocol
	// ModeFull: the engine also holds policy and outer routing; the caller sees
	// only exceptions, each with a reason.
	ModeFull
)

// DeviceInfo describes an engine (g-API discovery).
type DeviceInfo struct {
	Name     string // unique in the process
	Driver   string
	Kind     Kind
	Version  int    // of this contract
	ISA      string // instruction set or hardware, for people
	NUMANode int    // -1: none
	Threads  int    // of this process that it computes on beside its callers'
	Users    int    // applications that have it open
	Shared   bool   // more may open it
	Ready    bool
}

// A Device is one engine. All methods may be called from any goroutine.
type Device interface {
	Info() DeviceInfo
	Caps() Caps
	// Open gives a session to an application, alone when exclusive. It fails
	// with ErrBusy when that cannot be, with ErrGone when the engine is lost.
	Open(app string, exclusive bool) (Session, error)
	// Close ends the engine; open sessions get EventGone.
	Close() error
}

// Group is a logical set of SAs of one session (a tenant). Group 0 always
// exists.
type Group uint32

// SA is an engine's handle of a security association, dense and small. 0 is
// never valid.
type SA uint32

// A Session is an opened engine. Control methods may be called from any
// goroutine; they wait for nothing but the engine. Each queue belongs to one
// goroutine.
type Session interface {
	NewGroup(name string) (Group, error)
	// DeleteGroup flushes the group and removes it.
	DeleteGroup(Group) error

	// AddSA installs an SA. Anything outside Caps is refused with
	// ErrNotSupported, never done some other way; what cannot be at all (the
	// length of a key, SPI 0) with ErrInvalid. The config's key is copied; the
	// caller may wipe it. In ModeCrypto the SPI only names the SA for people,
	// and may repeat: packets name their SA by handle. An engine that finds
	// inbound SAs by SPI itself refuses one twice in a group with ErrExists.
	AddSA(Group, *SAConfig) (SA, error)
	// ModSA changes a live SA in ModeProtocol. In ModeCrypto there is nothing to
	// change: ErrNotSupported.
	ModSA(SA, *SAMod) error
	// State reads what packets have changed of a live SA in ModeProtocol; with
	// others it fails with ErrNotSupported.
	State(SA) (SAState, error)
	// Hold is State, after which the SA takes no packet any more: jobs that are
	// submitted when it has returned get StatusHeld, unchanged, and no number is used
	// beyond Seq. Those submitted before complete; inbound, their numbers are in what
	// State gives when they are polled. ModSA with a State ends it.
	Hold(SA) (SAState, error)
	// DelSA removes an SA. Jobs that are in flight complete, with
	// StatusNoSA or their result; the handle is not given out again before.
	DelSA(SA) error
	// Flush removes all SAs of a group.
	Flush(Group) error
	// SAs lists up to max SAs of a group after the handle given (0: from the
	// start), in handle order (g-API: first N, next N, exact with max 1).
	// Keys are never in it.
	SAs(g Group, after SA, max int) ([]SAInfo, error)
	// Stats reads an SA's counters.
	Stats(SA) (SAStats, error)

	// Queue opens queue i (0 ≤ i < Caps.Queues) over the buffers of pool.
	Queue(i int, pool *Pool) (Queue, error)
	// Events delivers what the engine reports, until Close closes the channel.
	// It is buffered and never blocks the engine: what nobody reads in time is
	// lost, and DeviceInfo.Ready and the SAs' counters tell the rest.
	Events() <-chan Event
	// Close releases all SAs and queues. Keys are wiped.
	Close() error
}

// Op is what a job asks for.
type Op uint8

// The operations. Seal and Open belong to ModeCrypto, Encap and Decap to
// ModeProtocol.
const (
	Seal Op = iota
	Open
	Encap
	Decap
)

// Status is the outcome of a job.
type Status uint8

// The outcomes. Each failing one is a drop reason of its own. After StatusNoSA,
// StatusNoRoom, StatusShort and StatusHeld the bytes of the packet are unchanged
// (unless it is what came out of a Decap that is too short).
const (
	StatusOK Status = iota
	StatusPending
	StatusBadICV      // integrity check failed; the text is wiped or unchanged, never plaintext
	StatusNoSA        // no such SA (deleted meanwhile), or it does not do this operation
	StatusShort       // packet too short to be what it claims, or of a length that the algorithm does not give
	StatusBadPad      // ModeProtocol: padding wrong
	StatusReplay      // ModeProtocol: sequence number seen
	StatusLate        // ModeProtocol: sequence number left of the window
	StatusSeqOverflow // ModeProtocol: no sequence number left
	StatusExpired     // ModeProtocol: hard lifetime reached
	StatusNoRoom      // no head or tail room in the buffer
	StatusDevice      // the engine failed or is gone
	StatusBadNext     // ModeProtocol: next header is none that tunnels carry, or contradicts the inner packet
	StatusBadECN      // ModeProtocol: congestion mark outside, inner packet not ECN-capable (RFC 6040 section 4.2)
	StatusDummy       // ModeProtocol: a packet for traffic-flow confidentiality (RFC 4303 section 2.6)
	StatusHeld        // ModeProtocol: not now; the SA is held, or has come to SeqLimit
)

// Flags of completed jobs in ModeProtocol.
const (
	// Soft: the SA has reached a soft lifetime.
	Soft uint8 = 1 << iota
	// SeqLow: the packet's number lies in the second half of what SeqLimit allowed
	// when it was set.
	SeqLow
)

// A Job is one packet's work: 32 bytes, no pointers.
//
// In ModeCrypto, Off is where the ESP header begins in the buffer, counted
// from the buffer's start; after its 8 bytes come the SA's IVLen bytes of IV,
// Len bytes of text and room for the SA's ICVLen bytes of ICV. The text is
// transformed in place; with a block cipher Len is a multiple of Align, or the
// job ends with StatusShort. All of it together has at most 65535 bytes, which is
// what an IP packet can carry. For Open, Len does not count the ICV, which stands
// behind the text.
//
// An AEAD's associated data is the SPI and sequence number in that header, with
// SeqHi between them when the SA has ESN (RFC 4106 section 5, RFC 7634 section
// 2.1). For all others the ICV covers what stands from the SPI to the text's
// end, and SeqHi behind it when the SA has ESN (RFC 4303 section 2.2.1); it is
// checked before anything is decrypted.
//
// Where the IV is a counter (Shape.Counter), the caller writes it before Seal
// and never uses one twice. Else, for AES-CBC, Seal writes it: 16 bytes that
// nobody can predict (RFC 3602 section 3).
//
// In ModeProtocol, Desc is the whole packet from the IP header on, in and out; one
// whose length is not what its header says gets StatusShort. Around a packet to Encap
// there is room for headers, trailer and ICV (SAConfig.Layout, esp.Template), else it
// gets StatusNoRoom. Off, Len and SeqHi are the engine's: after StatusOK, Len is the
// length of the inner packet, Off where the ESP header is in the buffer, inbound in
// front of Desc, and SeqHi the upper half of the sequence number that is there. After
// any other status Desc is as it was submitted. Numbers are given in the order of
// Submit, whatever queues an SA is used by; a packet that fails afterwards has used
// its number. A packet's number is entered into the replay window when it is polled.
type Job struct {
	SA     SA
	Op     Op
	Status Status
	Flags  uint8
	_      uint8
	Desc   Desc
	Off    uint16
	Len    uint16
	SeqHi  uint32
	Cookie uint64 // the caller's; comes back unchanged
}

// A Queue is one goroutine's way into an engine. It allocates nothing.
type Queue interface {
	// Do runs the jobs, any number, to completion and sets their Status; the
	// order of execution within the burst is the engine's. Only engines with Caps.Sync
	// have it; others fail every job with StatusDevice.
	Do(jobs []Job)
	// Submit hands over the first n jobs; buffers belong to the engine until
	// Poll gives the jobs back. n < len(jobs) means that the queue is full.
	Submit(jobs []Job) (n int)
	// Poll takes completed jobs, those of one SA in submit order.
	Poll(jobs []Job) (n int)
	// InFlight is what has been submitted and not polled.
	InFlight() int
	Close() error
}
