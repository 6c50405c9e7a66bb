package datastore

import (
	"fmt"
	"strconv"
	"time"

	"vrouter/mgmt/data"
)

// Locks is who holds the lock of each datastore (RFC 6241 section 7.5). The
// zero value holds none. It is not safe for concurrent use.
type Locks struct{ held [len(names)]*Lock }

// A Lock is held by one session.
type Lock struct {
	Datastore Name
	By        Session
	Since     time.Time
}

// Held gives the lock of a datastore, or nil.
func (l *Locks) Held(n Name) *Lock { return l.held[n] }

// All gives the locks that are held.
func (l *Locks) All() (all []Lock) {
	for _, h := range l.held {
		if h != nil {
			all = append(all, *h)
		}
	}
	return all
}

// Lock gives by the lock of n, or lock-denied with the session-id of the
// holder, be it by itself.
func (l *Locks) Lock(n Name, by Session, now time.Time) error {
	if h := l.held[n]; h != nil {
		return Denied(h.By.ID, fmt.Sprintf("%s is locked by %s", n, h.By))
	}
	l.held[n] = &Lock{n, by, now}
	return nil
}

// Unlock takes the lock of n from by, or gives operation-failed when by does
// not hold it.
func (l *Locks) Unlock(n Name, by Session) error {
	if h := l.held[n]; h == nil || h.By != by {
		return &data.Error{Type: "protocol", Tag: "operation-failed", Msg: fmt.Sprintf("this session does not hold the lock of %s", n)}
	}
	l.held[n] = nil
	return nil
}

// Free gives in-use when another session than by holds the lock of n.
func (l *Locks) Free(n Name, by Session) error {
	if h := l.held[n]; h != nil && h.By != by {
		return &data.Error{Type: "protocol", Tag: "in-use", Msg: fmt.Sprintf("%s is locked by %s", n, h.By)}
	}
	return nil
}

// Denied is the lock-denied of RFC 6241 appendix A; 0 stands for a holder that
// is no NETCONF session.
func Denied(holder uint32, why string) *data.Error {
	return &data.Error{Type: "protocol", Tag: "lock-denied", Msg: why,
		Info: []data.Info{{Name: "session-id", Value: strconv.FormatUint(uint64(holder), 10)}}}
}

// String names a session for people.
func (s Session) String() string {
	if s.ID == 0 {
		return fmt.Sprintf("%q outside NETCONF", s.User)
	}
	return fmt.Sprintf("session %d of %q", s.ID, s.User)
}
