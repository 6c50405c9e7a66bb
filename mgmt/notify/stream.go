package notify

import "time"

// A stream is a log of events and who listens to it. The Hub's lock covers it.
type stream struct {
	name, what string
	made       time.Time // of the log
	aged       time.Time // of the newest event that left the log; zero: none has

	log   []*record // log[first:], oldest first
	first int
	bytes int

	subs   map[*Subscription]bool
	events uint64 // so far
	cut    uint64 // subscriptions that ended because nobody read
}

func (h *Hub) stream(name string) *stream {
	for _, s := range h.streams {
		if s.name == name {
			return s
		}
	}
	return nil
}

// add logs an event and takes out what no longer has a place.
func (s *stream) add(r *record, l Limits) {
	s.events++
	s.log = append(s.log, r)
	s.bytes += len(r.msg)
	s.age(r.in, l)
}

// age takes out what is too old or too much. The last event stays whatever its
// size, so that what happened last can be replayed.
func (s *stream) age(now time.Time, l Limits) {
	for n := len(s.log) - s.first; n > 0; n-- {
		old := s.log[s.first]
		if (n == 1 || n <= l.Events && s.bytes <= l.Bytes) && now.Sub(old.in) <= l.Age {
			break
		}
		s.log[s.first] = nil
		s.first++
		s.bytes -= len(old.msg)
		if old.time.After(s.aged) {
			s.aged = old.time
		}
	}
	if s.first > 64 && s.first > len(s.log)/2 { // constant time on average
		n := copy(s.log, s.log[s.first:])
		clear(s.log[n:])
		s.log, s.first = s.log[:n], 0
	}
}

// queue hands an event to the subscriptions, and adds those whose queue is full
// to behind; they get no more.
func (s *stream) queue(r *record, behind []*Subscription) []*Subscription {
	for sub := range s.subs {
		select {
		case sub.live <- r:
		default:
			delete(s.subs, sub)
			s.cut++
			behind = append(behind, sub)
		}
	}
	return behind
}

// since copies what is to be replayed: what happened at or after start, and
// not after stop where there is one.
func (s *stream) since(start, stop time.Time) []*record {
	var out []*record
	for _, r := range s.log[s.first:] {
		if !r.time.Before(start) && (stop.IsZero() || !r.time.After(stop)) {
			out = append(out, r)
		}
	}
	return out
}

// A StreamInfo tells of a stream, for RFC 5277's /netconf/streams.
type StreamInfo struct {
	Name, Description string
	// Created is when the log began, Aged the time of the last event that left
	// it; zero: none has.
	Created, Aged time.Time
	// Events counts all so far, Logged those that can be replayed, CutOff the
	// subscriptions that ended because their client did not read.
	Events, CutOff        uint64
	Logged, Subscriptions int
}

// Streams tells of the streams, NETCONF first.
func (h *Hub) Streams() []StreamInfo {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []StreamInfo
	for _, s := range h.streams {
		s.age(h.now(), h.limits)
		out = append(out, StreamInfo{Name: s.name, Description: s.what, Created: s.made, Aged: s.aged,
			Events: s.events, CutOff: s.cut, Logged: len(s.log) - s.first, Subscriptions: len(s.subs)})
	}
	return out
}
