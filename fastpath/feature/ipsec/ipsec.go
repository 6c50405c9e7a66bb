package ipsec

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// The files, in the order of a packet and then of a commit:
//
//	walk.go      policy: what new flows do
//	seal.go      outbound: sequence number, ESP and outer header, engine, out
//	open.go      inbound: replay check, engine, window, trailer, round again
//	late.go      how late packets come
//	unwrap.go    what comes in UDP: ESP, IKE, keep-alives
//	esp.go       the bytes of ESP (pkg/esp), and what is wrong with them
//	transport.go those of ESP in transport mode
//	pathmtu.go   what fits on the way to a peer
//	peer.go      peers behind a NAT: where they are, and keep-alives to them
//	spd.go, selector.go, spi.go   what policy looks up
//	sad.go       SAs as workers see them
//	live.go, slots.go   what packets change about SAs, and outlives the process
//	lifetime.go         the end of SAs, by packets, bytes and numbers
//	expire.go, clock.go by time, and what is told of all
//	protocol.go  SAs whose packets an engine makes, numbers and all
//	prepare.go, publish.go   commits
//	engine.go    crypto engines: which SA goes to which, and what leaves them
//	shift.go     SAs that go to another engine while packets flow
//	health.go    engines that fail, and come back
//	keys.go      keys, for that
//	quota.go     what tenant groups may use
//	alarm.go     packets that nobody can have sent, and numbers that are reported
//	state.go     counters
//
// Not done: AH; links below 576 octets on the way to a peer are not told of (IPv4),
// and no probes are sent where ICMP does not come through (RFC 8899); an outer packet
// is not looked up in the SPD again, so tunnels in tunnels need two vRouters, and no
// SA in transport mode carries what a tunnel mode SA has made; in transport mode a peer
// behind a NAT is not followed to another address; message types of the mobility
// header are no selectors; of the combinations of ECN that RFC 6040 section 4.2 wants
// an alarm for, only the one that is dropped is counted.

// Options of New.
type Options struct {
	MaxSAs uint32 // 0: 65536
	BootID string // what tells one boot of the machine from another
	// Boottime replaces CLOCK_BOOTTIME (nanoseconds).
	Boottime func() int64
}

// A Feature is IPsec in one fast path. All methods belong to the control side,
// under the engine's lock; workers use what In, Out, Seal and Open return.
type Feature struct {
	env        *pipeline.Env
	sad        *sad
	handles    *mem.Slots // of records
	groupSlots *mem.Slots
	metered    uint64 // number of the newest meter
	keys       keyring
	engines    []*engine
	workers    []*worker // of any number there can be, nil from made on
	made       int
	clock      *clock

	// What workers read of it beside the SAD.
	spd   atomic.Pointer[spd]
	sels  []*scope                // by record handle; written before workers know the handle
	few   atomic.Bool             // SAs
	ports atomic.Pointer[portSet] // nil: no SA has UDP encapsulation
	// meters are those of tenant groups, by index.
	meters [maxGroups]atomic.Pointer[meter]

	// The writer's books.
	sas      map[string]*sa
	groups   map[string]*group
	paths    paths
	bySlot   map[uint32]*sa
	inSPI    map[uint32]*sa // inbound, by SPI
	chains   map[reqKey][]*sa
	order    uint64 // of the SA set last
	timers   timers
	listens  map[uint16]int // inbound SAs by the UDP port where they listen
	peers    map[between]*peer
	said     said
	parted   []parting // records that have given way to others, still in flows
	lost     int       // SAs whose engine is lost, or more
	short    bool      // of records, so that some are not where they should be
	alarms   Alarms
	alarmed  int64  // when counters were looked at for them
	reports  int    // SAs that report their numbers
	gap      uint64 // numbers that an engine leaves out when it begins to give them (steady)
	hurry    int64  // until then records are taken back as soon as they can be
	policies map[string]*policy
	byReq    map[uint64]map[*policy]bool // outbound Protect entries
}

type reqKey struct {
	reqid uint64
	dir   sal.Direction
}

// largestMaxSAs keeps handles within pipeline.MaxSA.
const largestMaxSAs = 1 << 20

// New opens the SA state and every crypto engine of the registry.
func New(env *pipeline.Env, o Options) (*Feature, error) {
	if o.MaxSAs == 0 {
		o.MaxSAs = defaultSAs
	}
	if o.MaxSAs > largestMaxSAs {
		return nil, fmt.Errorf("%d SAs: at most %d", o.MaxSAs, largestMaxSAs)
	}
	f := &Feature{env: env, sas: map[string]*sa{}, groups: map[string]*group{}, groupSlots: mem.NewSlots(maxGroups, env.Grace, nil), paths: newPaths(), bySlot: map[uint32]*sa{}, inSPI: map[uint32]*sa{},
		chains: map[reqKey][]*sa{}, listens: map[uint16]int{}, peers: map[between]*peer{}, policies: map[string]*policy{}, byReq: map[uint64]map[*policy]bool{},
		clock: newClock(env.Now, o.Boottime)}
	f.spd.Store(&spd{seed: burst.NewSeed()[0]})
	path := ""
	if env.StateDir != "" {
		path = filepath.Join(env.StateDir, "sa-state")
	}
	d := &sad{}
	f.sad = d
	var err error
	if d.live, err = openLive(path, o.MaxSAs, o.BootID, f.clock); err != nil {
		return nil, err
	}
	n := 2*int(o.MaxSAs) + 1024 // see patiently
	if d.rec, err = mem.NewTable[record](n, mem.Options{}); err != nil {
		return nil, err
	}
	if d.errs, err = mem.NewTable[saErrors](int(o.MaxSAs), mem.Options{SmallPages: true}); err != nil {
		return nil, err
	}
	if d.late, err = mem.NewTable[lateness](int(o.MaxSAs), mem.Options{SmallPages: true}); err != nil {
		return nil, err
	}
	for _, slot := range d.live.byTag {
		d.late.At(slot).since = d.live.line(slot).Packets
	}
	if d.seen, err = mem.NewTable[sighting](int(o.MaxSAs), mem.Options{SmallPages: true}); err != nil {
		return nil, err
	}
	d.limits = make([]atomic.Pointer[limits], o.MaxSAs)
	if d.bySPI, err = newSPITable(env); err != nil {
		return nil, err
	}
	if d.outSPI, err = newSPITable(env); err != nil {
		return nil, err
	}
	if f.keys, err = newKeyring(n, func(err error) { env.Log.Warn("keys may be swapped out (RLIMIT_MEMLOCK)", "err", err) }); err != nil {
		return nil, err
	}
	f.handles = mem.NewSlots(uint32(n), env.Grace, f.keys.wipe)
	f.sels = make([]*scope, n)
	f.workers = make([]*worker, pipeline.MaxWorkers)
	if err := f.Grow(env.Workers); err != nil {
		return nil, err
	}
	f.openEngines()
	env.Tunnels = f
	return f, nil
}

// Close writes the SA state down and gives the engines back. No worker runs
// any more.
func (f *Feature) Close() error {
	var errs []error
	for _, s := range f.sas {
		f.leaveLine(s) // the numbers are known to the last
	}
	for _, w := range f.workers[:f.made] {
		for _, l := range w.lanes {
			errs = append(errs, l.raw.Close())
		}
		errs = append(errs, w.paths.Unmap(), w.purses.Unmap())
	}
	for _, e := range f.engines {
		errs = append(errs, e.session.Close())
	}
	errs = append(errs, f.sad.live.close(), f.sad.rec.Unmap(), f.sad.errs.Unmap(), f.sad.late.Unmap(), f.keys.tab.Unmap(), f.sad.seen.Unmap(), f.sad.bySPI.close(), f.sad.outSPI.close())
	return errors.Join(errs...)
}

// InFlight is how many buffers engines hold.
func (f *Feature) InFlight() (n int) {
	for _, w := range f.workers[:f.made] {
		for _, l := range w.lanes {
			n += l.q.InFlight()
		}
	}
	return n
}
