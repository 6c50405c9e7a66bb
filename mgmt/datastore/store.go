// Package datastore keeps the configuration datastores of RFC 6241: running,
// candidate and startup.
package datastore

import (
	"time"

	"vrouter/mgmt/data"
	"vrouter/mgmt/validate"
)

// A Session says who acts: a NETCONF session, or something of this process.
type Session struct {
	// ID is the NETCONF session-id; 0 means that it is not a NETCONF session.
	ID uint32
	// User is the authenticated user name.
	User string
}

// A Version is one state of running. It never changes.
type Version struct {
	Tree *data.Container
	// Refs belongs to Tree; it is what validation needs to know about it.
	Refs validate.Refs
	// Seq numbers the changes of running from 1; 0 is the empty beginning.
	Seq uint64
	// Time is when the change was accepted, By who asked for it.
	Time time.Time
	By   Session
}

// A Store holds the datastores and their files.
type Store struct{}
