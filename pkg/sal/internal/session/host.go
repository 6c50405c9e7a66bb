package session

import (
	"fmt"
	"sync"

	"vrouter/pkg/sal"
)

// Host is an engine as far as opening and closing it goes. Its fields are set
// before the first Open and stay.
type Host struct {
	Name   string
	Queues int // that a session has
	MaxSAs int // of a session
	// Records makes what keeps the SAs of a new session.
	Records func(*Session) (Records, error)

	mu        sync.Mutex
	sessions  map[*Session]struct{}
	exclusive bool
	gone      bool
}

// Open gives a session: sal.Device. SAs of different sessions do not know of each
// other.
func (h *Host) Open(app string, exclusive bool) (sal.Session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.gone:
		return nil, fmt.Errorf("engine %s: %w", h.Name, sal.ErrGone)
	case h.exclusive, exclusive && len(h.sessions) > 0:
		return nil, fmt.Errorf("engine %s: %w", h.Name, sal.ErrBusy)
	}
	s := newSession(h, app)
	var err error
	if s.recs, err = h.Records(s); err != nil {
		return nil, fmt.Errorf("engine %s: %w", h.Name, err)
	}
	if h.sessions == nil {
		h.sessions = map[*Session]struct{}{}
	}
	h.sessions[s] = struct{}{}
	h.exclusive = exclusive
	return s, nil
}

// Close ends the engine: sessions get EventGone, their jobs fail with
// StatusDevice.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		return nil
	}
	h.gone = true
	for s := range h.sessions {
		s.lose()
	}
	return nil
}

// Fill completes what an engine says of itself.
func (h *Host) Fill(i sal.DeviceInfo) sal.DeviceInfo {
	h.mu.Lock()
	defer h.mu.Unlock()
	i.Name, i.Version, i.Users = h.Name, sal.Version, len(h.sessions)
	i.Shared, i.Ready = !h.exclusive && !h.gone, !h.gone
	return i
}

// leave is called by a session that closes.
func (h *Host) leave(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, in := h.sessions[s]; in {
		delete(h.sessions, s)
		h.exclusive = false
	}
}
