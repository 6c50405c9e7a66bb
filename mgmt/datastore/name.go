package datastore

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
