// Package notify carries events from whoever sees them to the NETCONF sessions
// that subscribed (RFC 5277). A Hub holds the streams: their logs, from which
// events are replayed, and their subscriptions. It knows no sessions and no
// framing.
//
//	Publish ─► event as XML, once ─► log of each stream (bounded)
//	                              └► queue of each subscription (bounded) ─► Next ─► session
//
// Publish takes a lock for moments and waits for nobody, so that neither a
// commit nor the data plane is slowed by who listens. Filters and access
// control run in the subscriber's goroutine, at Next. A subscriber whose queue
// is full has not read for thousands of events: its subscription ends with
// ErrBehind, is counted, and its session is cut off. RFC 5277 has no way to tell
// a subscriber that it missed something, and one that believes to have heard all
// is worse off than one that has to come back and ask for a replay.
//
// # Choices where the RFC leaves one
//
//   - Stream NETCONF has all events (section 3.2.3); the others a part of them.
//   - The logs are in memory: they begin when the process does, and
//     replayLogCreationTime says so. What leaves a log by age, number or size
//     moves replayLogAgedTime.
//   - A filter decides whether a notification is sent, whole, as in RFC 8639
//     section 2.2: something of it must be selected. Its root has the
//     notification's element as child.
//   - Events are in the order in which they were published, live and replayed.
//   - Access is decided when an event is sent, by the rules that hold then, also
//     in a replay.
//
// Not done: notifications inside data nodes (RFC 7950 section 7.16; no module
// has one), RFC 8639's subscriptions, logs that outlive the process.
package notify

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/oper"
	"vrouter/mgmt/xpath"
	"vrouter/mgmt/yang"
)

// The streams.
const (
	// NETCONF has all events (RFC 5277 section 3.2.3).
	NETCONF = "NETCONF"
	// DataPlane has what the data plane tells: lifetimes and sequence numbers of
	// SAs, ports that come and go.
	DataPlane = "data-plane"
)

// ns is the namespace of the element notification (RFC 5277 section 4).
const ns = "urn:ietf:params:xml:ns:netconf:notification:1.0"

// An Event is one notification to be sent.
type Event struct {
	// Time is when it happened; zero: now.
	Time time.Time
	// Stream is where it belongs besides NETCONF; "": nowhere.
	Stream string
	// Node is the schema node of the notification, one of the top level.
	Node *yang.Node
	// Data is its content, with Node as its root; nil: none. It is not changed.
	Data *data.Container
}

// Options of New.
type Options struct {
	Schema *yang.Schema
	Log    *slog.Logger // nil: no log
	Limits Limits
	// Now is the clock for logs and queues; nil: time.Now.
	Now func() time.Time
}

// Limits of a Hub. Zero values mean the defaults that stand beside them.
type Limits struct {
	Events int           // in the log of a stream: 10 000
	Bytes  int           // of their XML in the log of a stream: 16 MiB
	Age    time.Duration // in the log of a stream: 24 h
	Queue  int           // events that a subscriber may be behind: 4096
}

// A Hub takes events and hands them to subscriptions. It is safe for concurrent
// use.
type Hub struct {
	schema *yang.Schema
	events *yang.Schema
	xpath  *xpath.Engine // of events
	log    *slog.Logger
	limits Limits
	now    func() time.Time

	mu      sync.Mutex
	streams []*stream
}

// New makes a Hub with empty logs.
func New(o Options) (*Hub, error) {
	if o.Schema == nil {
		return nil, errors.New("notify: Schema is needed")
	}
	h := &Hub{schema: o.Schema, events: o.Schema.Events(), log: o.Log, limits: o.Limits, now: o.Now}
	h.limits.Events = cmp.Or(h.limits.Events, 10_000)
	h.limits.Bytes = cmp.Or(h.limits.Bytes, 16<<20)
	h.limits.Age = cmp.Or(h.limits.Age, 24*time.Hour)
	h.limits.Queue = cmp.Or(h.limits.Queue, 4096)
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.now == nil {
		h.now = time.Now
	}
	var err error
	if h.xpath, err = xpath.New(h.events); err != nil {
		return nil, err
	}
	made := h.now()
	h.streams = []*stream{
		{name: NETCONF, what: "All events of this router.", made: made, subs: map[*Subscription]bool{}},
		{name: DataPlane, what: "What the data plane tells: lifetimes and sequence numbers of SAs, ports that come and go.",
			made: made, subs: map[*Subscription]bool{}},
	}
	return h, nil
}

// A record is an event as it is logged and sent. It does not change.
type record struct {
	time time.Time
	in   time.Time // when it was published
	node *yang.Node
	tree *data.Container // root of the event schema, with the notification
	msg  []byte          // the whole message
}

// Publish logs an event and queues it for its subscribers. It waits for nobody.
// An event that does not fit the schema is an error of the program: it is
// logged and dropped.
func (h *Hub) Publish(e Event) {
	r, err := h.record(e)
	if err != nil {
		h.log.Error("an event was not published", "err", err)
		return
	}
	var behind []*Subscription
	h.mu.Lock()
	for _, s := range h.streams {
		if s.name == NETCONF || s.name == e.Stream {
			s.add(r, h.limits)
			behind = s.queue(r, behind)
		}
	}
	h.mu.Unlock()
	for _, s := range behind {
		s.end(ErrBehind)
	}
}

func (h *Hub) record(e Event) (*record, error) {
	switch {
	case e.Node == nil || e.Node.Kind != yang.Notification || e.Node.Up != h.events.Root:
		return nil, errors.New("notify: an event without a notification of the schema's top level")
	case e.Data == nil:
		e.Data = data.NewAt(e.Node)
	case e.Data.S != e.Node:
		return nil, fmt.Errorf("notify: the content of %s has another root", e.Node.Path())
	}
	if e.Stream != "" && h.stream(e.Stream) == nil {
		return nil, fmt.Errorf("notify: %s is for a stream %q that is not there", e.Node.Path(), e.Stream)
	}
	now := h.now()
	if e.Time.IsZero() {
		e.Time = now
	}
	return &record{time: e.Time, in: now, node: e.Node, tree: data.Under(h.events.Root, e.Data), msg: h.message(e)}, nil
}

// message writes an event as it goes over the wire (RFC 5277 section 4). What
// is default-deny-all has no place in an event; it is left out here even so.
func (h *Hub) message(e Event) []byte {
	b := append(make([]byte, 0, 512), `<notification xmlns="`+ns+`"><eventTime>`...)
	b = append(e.Time.UTC().AppendFormat(b, time.RFC3339Nano), "</eventTime>"...)
	w := codec.Writer{Schema: h.schema, Hide: func(n *yang.Node) bool { return n.DenyAll && n != e.Node }}
	return append(w.AppendNode(b, e.Data, nil), "</notification>"...)
}

// Compose builds an event of a notification, named module:name. f writes its
// content by the names of the nodes; it may be nil. Where the schema does not
// have the notification, for its feature is off, the event is nil.
func (h *Hub) Compose(name string, f func(w *oper.Writer)) (*Event, error) {
	n := h.events.Root.ChildByName(name)
	if n == nil {
		return nil, nil
	}
	edit := data.Begin(data.NewAt(h.events.Root))
	if f != nil {
		w := oper.New(h.events, everything{}, edit)
		w.In(name, func() { f(w) })
		if err := w.Err(); err != nil {
			return nil, fmt.Errorf("notify: %s: %w", name, err)
		}
	}
	return &Event{Node: n, Data: edit.Done().Sub(n)}, nil
}

// Tell composes an event and publishes it. What cannot be written is logged
// and not published. stream is as in Event, and t too.
func (h *Hub) Tell(t time.Time, stream, name string, f func(w *oper.Writer)) {
	e, err := h.Compose(name, f)
	if err != nil {
		h.log.Error("an event was not published", "err", err)
	}
	if e != nil {
		e.Time, e.Stream = t, stream
		h.Publish(*e)
	}
}

// everything wants everything.
type everything struct{}

func (everything) Subtree(*yang.Node) bool          { return true }
func (everything) Keys(*yang.Node) ([]string, bool) { return nil, true }
