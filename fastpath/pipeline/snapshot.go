package pipeline

// Slot is a feature's place in a Snapshot.
type Slot int

// The slots.
const (
	SlotNeigh Slot = iota
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
	Ifaces *Ifaces
	Parts  [slots]Part
	Crew   *Crew
}

// Builder collects one change: the new Parts, names resolved as they will be
// after it, and whether flows must walk again.
type Builder struct {
	Env  *Env
	Snap Snapshot // begins as a copy of the live one
	// Workers is how many there will be after the change.
	Workers int
	// Names finds the index of an interface by name as it is after the change;
	// 0: none of that name. Set by iface.
	Names func(name string) IfIndex

	flush bool
}

// Iface is the interface of a name as it is after the change, nil when there is
// none. Valid once iface has prepared, so for all other features.
func (b *Builder) Iface(name string) *Iface {
	i := b.Names(name)
	if i == 0 {
		return nil
	}
	return b.Snap.Ifaces.At(i)
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
