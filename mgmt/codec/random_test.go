package codec_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/validate"
)

// TestMandatory: what is new must be complete, also in lists below containers
// in which nothing is mandatory.
func TestMandatory(t *testing.T) {
	s := load(t)
	v, err := validate.New(s)
	if err != nil {
		t.Fatal(err)
	}
	empty := data.New(s)
	const ip = `<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>10.0.0.1</ip>%s</address></ipv4>`
	for _, c := range []struct{ xml, tag, app, path string }{
		{wrap(`<interface><name>a</name></interface>`), "data-missing", "", "/ietf-interfaces:interfaces/interface[name='a']/type"},
		{wrap(`<interface><name>a</name><type>i:other</type>` + fmt.Sprintf(ip, "") + `</interface>`), "data-missing", "missing-choice", "/ietf-interfaces:interfaces/interface[name='a']/ietf-ip:ipv4/address[ip='10.0.0.1']"},
		{wrap(`<interface><name>a</name><type>i:other</type>` + fmt.Sprintf(ip, "<netmask>255.0.0.0</netmask>") + `</interface>`), "", "", ""},
	} {
		_, _, errs := v.Change(empty, edit(t, empty, c.xml), validate.Refs{})
		if c.tag == "" {
			if errs != nil {
				t.Error(errs[0])
			}
		} else if len(errs) != 1 || errs[0].Tag != c.tag || errs[0].AppTag != c.app || errs[0].Path != c.path {
			t.Errorf("%s: %v", c.xml, errs)
		}
	}
}

// TestEditsAgainstModel runs random edits with every operation on the tree
// and on plain maps, and rebuilds each tree from its own XML.
func TestEditsAgainstModel(t *testing.T) {
	s := load(t)
	type model map[string]map[string]string
	flat := func(root *data.Container) model {
		m := model{}
		n := s.Root.Child(s.Modules["ietf-interfaces"], []byte("interfaces"))
		if n := root.Sub(n); n != nil {
			n.Kids()[0].(*data.List).Each(func(k string, e data.Node) bool {
				m[k] = map[string]string{}
				for _, l := range e.(*data.Container).Kids()[1:] {
					m[k][l.Schema().Name] = l.(*data.Leaf).Value.Text
				}
				return true
			})
		}
		return m
	}
	opName := []string{"merge", "replace", "create", "delete", "remove"}
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 9))
		root, m := data.New(s), model{}
		for step := range 80 {
			next := model{}
			for k, v := range m {
				next[k] = maps.Clone(v)
			}
			var x strings.Builder
			tag := ""
			for range 1 + r.IntN(4) {
				name, op := fmt.Sprint("e", r.IntN(40)), r.IntN(5)
				fmt.Fprintf(&x, `<interface nc:operation="%s"><name>%s</name>`, opName[op], name)
				_, have := next[name]
				fail := func(bad bool, with string) {
					if bad && tag == "" {
						tag = with
					}
				}
				switch op {
				case 2:
					fail(have, "data-exists")
				case 3:
					fail(!have, "data-missing")
				}
				if op >= 3 {
					delete(next, name)
				} else if op == 1 || !have {
					next[name] = map[string]string{}
				}
				for _, leaf := range []string{"description", "enabled"} {
					lop, val := r.IntN(6), "true"
					if leaf == "description" {
						val = fmt.Sprint("d<&", r.IntN(3))
					}
					esc := strings.NewReplacer("<", "&lt;", "&", "&amp;").Replace(val)
					if lop == 5 {
						continue
					}
					fmt.Fprintf(&x, `<%s nc:operation="%s">%s</%s>`, leaf, opName[lop], esc, leaf)
					if op >= 3 {
						continue
					}
					old, has := next[name][leaf]
					_ = old
					switch lop {
					case 2:
						fail(has, "data-exists")
					case 3:
						fail(!has, "data-missing")
					}
					if lop >= 3 {
						delete(next[name], leaf)
					} else {
						next[name][leaf] = val
					}
				}
				x.WriteString(`</interface>`)
			}
			got, err := codec.Edit(s, root, []byte(head+wrap(x.String())+"</config>"), data.Merge)
			var e *data.Error
			if tag != "" {
				if !errors.As(err, &e) || e.Tag != tag {
					t.Fatalf("seed %d step %d: %v, want %s\n%s", seed, step, err, tag, x.String())
				}
				next = m // and nothing happened
			} else if err != nil {
				t.Fatal(err, x.String())
			} else {
				root = got
			}
			m = next
			have := flat(root)
			if len(have) != len(m) {
				t.Fatalf("seed %d step %d: %d entries, want %d", seed, step, len(have), len(m))
			}
			for k := range m {
				if !maps.Equal(have[k], m[k]) {
					t.Fatalf("seed %d step %d: %s is %v, want %v\n%s", seed, step, k, have[k], m[k], x.String())
				}
			}
			changes := 0
			data.Diff(root, edit(t, data.New(s), write(t, root)), func(data.Change) { changes++ })
			if changes != 0 {
				t.Fatal("the XML of a tree does not give the tree back")
			}
		}
	}
}
