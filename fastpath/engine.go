// Package fastpath is the data plane: an Engine that takes configuration as
// plain Go values, compiles it, and moves packets by it. It knows no YANG and
// allocates nothing per packet.
//
// A packet's life is told in worker/loop.go, the order of features stands in
// features.go.
package fastpath

import (
	"context"

	"vrouter/fastpath/event"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/sal"
)

// An Engine is a running data plane, in this process or behind a socket (rpc).
// Methods may be called from any goroutine; changes are serialised by the
// engine, one ticket at a time.
type Engine interface {
	// Caps tells what configuration the engine can take.
	Caps(ctx context.Context) (*Caps, error)
	// Inventory tells what is configured now, by digest, so that a management
	// plane that comes back sends only what differs. No secret is in it.
	Inventory(ctx context.Context) (*Inventory, error)
	// Prepare checks and compiles a change. On error (a *Refusal where the
	// change is at fault) nothing has changed anywhere. A ticket that is
	// neither published nor aborted within TicketLife is aborted.
	Prepare(ctx context.Context, c *Change) (Ticket, error)
	// Publish makes a prepared change live. It fails only when the ticket is
	// unknown or the engine is gone, never halfway.
	Publish(ctx context.Context, t Ticket) error
	// Abort forgets a prepared change.
	Abort(ctx context.Context, t Ticket) error
	// State reads what was asked for.
	State(ctx context.Context, q *Query) (*State, error)
	// Events gives what happened after the event of a number, some hundreds at
	// most, and waits until something has or ctx is done. EventsResume goes on
	// behind what was taken last, by whomever: to ask for what comes after a
	// number is to say that everything up to it was taken. So a management plane
	// that comes back is given what it missed, and perhaps what it was given last
	// a second time. Of what nobody takes the oldest gives way, and is counted.
	Events(ctx context.Context, after uint64) (*Events, error)
	// Operate does what an operator asks for beside configuration. On error (a
	// *Refusal where what was asked for is at fault, with Field Name where no such
	// SA or engine is there) nothing has changed. It waits for a change that is
	// prepared.
	Operate(ctx context.Context, o *Operation) error
	// Close releases the caller's side; an engine in this process stops.
	Close() error
}

// Operation is what an operator may ask for. It lasts as long as the process.
type Operation struct {
	What Operating
	// Engine is a crypto engine by name, SA the SA to move.
	Engine, SA string
}

// Operating says what an Operation is.
type Operating uint8

// The operations.
const (
	// DrainEngine has the SAs of an engine go to others, and none be placed there.
	DrainEngine Operating = iota + 1
	// UndrainEngine ends that; SAs that want to be there return.
	UndrainEngine
	// MigrateSA has an SA go to an engine, where it stays until that is lost or
	// drained, or the SA is set with another Offload.
	MigrateSA
)

// Ticket names a prepared change.
type Ticket uint64

// Change is the difference a commit makes. Objects are named by their keys;
// what is not named stays as it is, with its sequence numbers, sessions and
// learnt addresses. References between objects (a route's interface) must hold
// after the change.
type Change struct {
	// Label names the configuration that the change leads to; Inventory gives
	// it back.
	Label  string
	Global *Global // nil: as it is
	Iface  iface.Change
	Neigh  neigh.Change
	Route  route.Change
	IPsec  ipsec.Change
}

// Global is what concerns the whole fast path.
type Global struct {
	BusyPoll bool // workers never sleep
	// Workers is how many poll loops there are; 0: as many as the process was
	// started with. Changed while packets flow, none is lost by it.
	Workers int
	// Cores are the processors of workers, in order, at most as many as these;
	// workers beyond run anywhere. nil: as the process was started.
	Cores []int
	// Spread says who works on what a port receives.
	Spread Spreading
	// Alarms say when it is told that SAs are sent what nobody can have sent.
	Alarms ipsec.Alarms
}

// Spreading says who works on what a port receives: see pipeline.Spreading.
type Spreading = pipeline.Spreading

// The ways.
const (
	SpreadAuto     = pipeline.SpreadAuto
	SpreadSoftware = pipeline.SpreadSoftware
	SpreadQueues   = pipeline.SpreadQueues
)

// Event is something that happened in the data plane by itself.
type Event = event.Event

// Events is events in order.
type Events = event.Batch

// EventsResume is a number for Engine.Events.
const EventsResume = event.Resume

// Refusal says which object of a change the engine cannot take, and why.
type Refusal = pipeline.Refusal

// Inventory is what an engine holds.
type Inventory struct {
	Label string
	// Objects maps feature ("iface", "neigh", "route", "policy", "sa", "group",
	// "global") and key text to a digest of the object's Config (DigestOf).
	Objects map[string]map[string]Digest
}

// Digest identifies an object's configuration without giving it away: a keyed
// hash, the key being new for each fastpathd process.
type Digest [16]byte

// Caps is what the engine can take.
type Caps struct {
	Version   string
	PID       int
	Drivers   []string // port drivers
	Engines   []EngineInfo
	DigestKey [16]byte // for DigestOf
}

// EngineInfo is one crypto engine of the SAL.
type EngineInfo struct {
	Name, Driver, Kind, ISA string
	Ready                   bool
	NUMANode                int // -1: none
	Queues, QueueDepth      int
	Modes                   []string
	Algorithms              []string
	ESN                     bool
	MaxSAs                  int
	WindowMax               int
	ipsec.EngineState
}

// Query says which state is wanted. A nil slice asks for nothing, an empty one
// for all, names for just these.
type Query struct {
	Ifaces     []string
	Neighbours []string // by interface
	Routes     bool
	SAs        []string
	Policies   []string
	Groups     []string // tenant groups
	Drops      bool
	Process    bool // workers, buffers, flow cache, engines
}

// State is the answer to a Query.
type State struct {
	Ifaces     []iface.State
	Neighbours []neigh.State
	Routes     []route.State
	SAs        []ipsec.SAState
	Policies   []ipsec.PolicyState
	Groups     []ipsec.GroupState
	Drops      []Drop
	Process    *Process
}

// Drop is one drop reason's count, in total and by interface.
type Drop struct {
	Reason, Severity, Description string
	Packets                       uint64
	Ifaces                        []IfaceDrop
}

// IfaceDrop is a drop reason's count on one interface (where the packet came in).
type IfaceDrop struct {
	Iface   string
	Packets uint64
}

// Process is the state of the data plane itself.
type Process struct {
	PID       int
	StartedAt int64 // Unix nanoseconds
	Label     string
	Workers   []Worker // those at work
	// Changes is how often their number, processors or spreading were changed.
	Changes uint64
	Buffers Buffers
	Flows   Flows
	Neigh   neigh.Stats
	Engines []EngineInfo
	Events  event.Stats
}

// Worker is one poll loop.
type Worker struct {
	ID, CPU                       int    // CPU: that it is bound to; -1: none
	Packets, Bursts, Turns, Idles uint64 // Idles: times it went to sleep
	// RunsOn is the processor that it ran on last, -1 unknown; Busy the time spent
	// in turns that met work, in nanoseconds, Load the percentage in the last second.
	RunsOn int
	Busy   uint64
	Load   int
	Flows  int // in its cache
	// Given are packets handed to other workers to work on, Taken those that it took
	// over, Sent frames given to others to be sent.
	Given, Taken, Sent uint64
	// Queues are those that it receives from.
	Queues []WorkerQueue
}

// WorkerQueue is a queue of an interface's port.
type WorkerQueue struct {
	Iface string
	Queue int
	// Spread: what is received is spread over the workers.
	Spread bool
}

// Buffers accounts for the packet buffers: Total = Free + Cached + Ports +
// Waiting (for a neighbour, or the rest of a fragmented packet) + InFlight (in crypto engines) once all is still.
// Large is those of them that are large.
type Buffers struct {
	Total, Free, Cached, Ports, Waiting, InFlight int
	Large                                         sal.ClassStats
}

// Flows is the flow cache.
type Flows struct {
	Size, Used   int
	Hits, Misses uint64
}

// Empty tells whether a change says nothing.
func (c *Change) Empty() bool {
	return c.Global == nil &&
		len(c.Iface.Set)+len(c.Iface.Delete)+len(c.Neigh.Set)+len(c.Neigh.Delete)+
			len(c.Route.Set)+len(c.Route.Delete)+len(c.IPsec.SetPolicy)+len(c.IPsec.DeletePolicy)+
			len(c.IPsec.SetSA)+len(c.IPsec.DeleteSA)+len(c.IPsec.SetGroup)+len(c.IPsec.DeleteGroup) == 0
}
