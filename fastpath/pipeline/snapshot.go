package pipeline

// Slot is a feature's place in a Snapshot.
type Slot int

// The slots.
const (
	SlotIface Slot = iota
	SlotNeigh
	SlotRoute
	SlotIPsec
	slots
)

// Part is a feature's compiled, immutable policy. A stage gets it by
// c.Snap.Parts[slot].(*itsType), once a burst.
type Part any

// Snapshot is the policy that workers decide by: immutable, published by one
// atomic store.
type Snapshot struct {
	Parts [slots]Part
}

// Iface is what other features see of an interface as it will be after the
// change.
type Iface struct {
	Index   IfIndex
	MAC     [6]byte
	MTU     [2]uint16 // IPv4, IPv6: largest packet in bytes
	Enabled [2]bool   // administratively up, and the family enabled
}

// Builder collects one change: the new Parts, names resolved as they will be
// after it, and whether flows must walk again.
type Builder struct {
	Env  *Env
	Snap Snapshot // begins as a copy of the live one
	// Iface finds an interface by name as it is after the change. Set by iface.
	Iface func(name string) (Iface, bool)
	// Gone tells whether an interface disappears in this change.
	Gone func(i IfIndex) bool

	flush bool
}

// Part is the feature's part as it is so far.
func (b *Builder) Part(s Slot) Part { return b.Snap.Parts[s] }

// SetPart replaces a feature's part in the snapshot to come.
func (b *Builder) SetPart(s Slot, p Part) { b.Snap.Parts[s] = p }

// FlushFlows makes all flows walk again when the change is published: for
// changes of policy.
func (b *Builder) FlushFlows() { b.flush = true }

// Flush tells whether FlushFlows was called.
func (b *Builder) Flush() bool { return b.flush }
