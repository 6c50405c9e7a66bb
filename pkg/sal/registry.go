package sal

import (
	"fmt"
	"sort"
)

// Registry names the port drivers and engines that a process was built with.
// Fill it at start (only commands name drivers); afterwards it is read-only.
type Registry struct {
	drivers map[string]Driver
	devices map[string]Device
}

// AddDriver registers a port driver; a name twice is a programming error.
func (r *Registry) AddDriver(d Driver) {
	if r.drivers == nil {
		r.drivers = map[string]Driver{}
	}
	if _, twice := r.drivers[d.Name()]; twice {
		panic("sal: port driver registered twice: " + d.Name())
	}
	r.drivers[d.Name()] = d
}

// AddDevice registers an engine; a name twice is a programming error.
func (r *Registry) AddDevice(d Device) {
	if r.devices == nil {
		r.devices = map[string]Device{}
	}
	n := d.Info().Name
	if _, twice := r.devices[n]; twice {
		panic("sal: engine registered twice: " + n)
	}
	r.devices[n] = d
}

// Driver finds a port driver.
func (r *Registry) Driver(name string) (Driver, error) {
	if d := r.drivers[name]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("port driver %q: %w", name, ErrNotFound)
}

// Device finds an engine.
func (r *Registry) Device(name string) (Device, error) {
	if d := r.devices[name]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("engine %q: %w", name, ErrNotFound)
}

// Drivers lists the names of the port drivers, sorted.
func (r *Registry) Drivers() []string { return names(r.drivers) }

// Devices lists the engines, sorted by name (g-API discovery).
func (r *Registry) Devices() []Device {
	var l []Device
	for _, n := range names(r.devices) {
		l = append(l, r.devices[n])
	}
	return l
}

func names[T any](m map[string]T) []string {
	l := make([]string, 0, len(m))
	for n := range m {
		l = append(l, n)
	}
	sort.Strings(l)
	return l
}
