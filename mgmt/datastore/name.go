package datastore

import (
	"fmt"
	"slices"
	"time"

	"vrouter/mgmt/data"
	"vrouter/mgmt/validate"
)

// Name is one of the configuration datastores of RFC 6241 section 5.1.
type Name uint8

// The datastores. The zero Name is running.
const (
	Running Name = iota
	Candidate
	Startup
)

var names = [...]string{"running", "candidate", "startup"}

// String gives the element name of RFC 6241.
func (n Name) String() string {
	if int(n) < len(names) {
		return names[n]
	}
	return "unknown"
}

// A Session says who acts: a NETCONF session, or something of this process.
type Session struct {
	// ID is the NETCONF session-id; 0 means that it is not a NETCONF session.
	ID uint32
	// User is the authenticated user name.
	User string
}

// Kind says how a Version of running came about.
type Kind uint8

// The kinds.
const (
	Initial Kind = iota // the empty configuration of a first start
	Commit              // commit of candidate
	Edit                // edit-config of running
	Copy                // copy-config to running
	Revert              // a confirmed commit was not confirmed
	Boot                // startup was loaded
)

var kinds = []string{"initial", "commit", "edit", "copy", "revert", "boot"}

// String gives the word that the files use.
func (k Kind) String() string { return kinds[k] }

func parseKind(s string) (Kind, error) {
	if i := slices.Index(kinds, s); i >= 0 {
		return Kind(i), nil
	}
	return 0, fmt.Errorf("unknown kind %q", s)
}

// A Version is one state of running. It never changes.
type Version struct {
	Tree *data.Container
	// Refs belongs to Tree: what validation has to know about it. Versions that
	// were running before this process began have none.
	Refs validate.Refs
	// Seq numbers the changes of running from 1, across restarts; 0 is the
	// empty configuration of the beginning.
	Seq uint64
	// Time is when the change was accepted, By who asked for it, Kind how.
	Time time.Time
	By   Session
	Kind Kind
	// Tentative marks a version that a confirmed commit made or that came
	// while one was pending: it is undone unless a later version that is not
	// tentative is persisted.
	Tentative bool

	cost int64 // bytes of the edit that led here

	// Between Draft and Persist: room for a record's head and the edit that
	// leads here from the tree from.
	draft []byte
	from  *data.Container
}
