package sal

import (
	"errors"
	"slices"
	"testing"
)

type namedDriver struct {
	Driver
	name string
}

func (d namedDriver) Name() string { return d.name }

type namedDevice struct {
	Device
	name string
}

func (d namedDevice) Info() DeviceInfo { return DeviceInfo{Name: d.name} }

func TestRegistry(t *testing.T) {
	var r Registry // the zero value is empty
	if len(r.Drivers())+len(r.Devices()) != 0 {
		t.Error("not empty")
	}
	if _, err := r.Driver("a"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := r.Device("a"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for _, n := range []string{"c", "a", "b"} {
		r.AddDriver(namedDriver{name: n})
		r.AddDevice(namedDevice{name: n})
	}
	if l := r.Drivers(); !slices.Equal(l, []string{"a", "b", "c"}) {
		t.Errorf("%v", l)
	}
	if l := r.Devices(); len(l) != 3 || l[0].Info().Name != "a" || l[2].Info().Name != "c" {
		t.Errorf("%v", l)
	}
	if d, err := r.Driver("b"); err != nil || d.Name() != "b" {
		t.Error(d, err)
	}
	if d, err := r.Device("b"); err != nil || d.Info().Name != "b" {
		t.Error(d, err)
	}
	for what, f := range map[string]func(){
		"driver": func() { r.AddDriver(namedDriver{name: "a"}) }, "engine": func() { r.AddDevice(namedDevice{name: "a"}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: a name twice", what)
				}
			}()
			f()
		}()
	}
}

func TestCapsHas(t *testing.T) {
	c := Caps{Modes: []Mode{ModeCrypto, ModeFull}}
	if !c.Has(ModeCrypto) || c.Has(ModeProtocol) || !c.Has(ModeFull) {
		t.Error(c)
	}
}
