package netconf

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/txn"
	"vrouter/mgmt/yang"
	modules "vrouter/yang"
)

// count is a source of state that notes what it is asked for.
type countState struct {
	asked []string
	err   error
}

func (s *countState) State(_ context.Context, w binding.Want, e *data.Edit) error {
	if s.err != nil {
		return s.err
	}
	sch, _ := theSchema()
	n := sch.Root.ChildByName("behaviour:top")
	seen := n.ChildByName("seen")
	if !w.Subtree(seen) {
		s.asked = append(s.asked, "nothing")
		return nil
	}
	names, all := w.Keys(seen)
	if all {
		s.asked, names = append(s.asked, "all"), []string{"a", "b", "c"}
	} else {
		s.asked = append(s.asked, strings.Join(names, " "))
	}
	if err := e.Enter(n, data.Merge); err != nil {
		return err
	}
	defer e.Leave()
	for _, k := range names {
		v, err := seen.Keys[0].Type.Parse(k, sch.Names())
		if err != nil {
			return err
		}
		if err := e.EnterEntry(seen, []yang.Value{v}, data.Merge, data.Where{}); err != nil {
			return err
		}
		if err := e.Set(seen.ChildByName("times"), "3"); err != nil {
			return err
		}
		e.Leave()
	}
	return nil
}

// get gives configuration and state, asks the sources only for what the filter
// wants, and get-config does not ask them at all.
func TestState(t *testing.T) {
	src := &countState{}
	b := newBed(t, func(o *Options) { o.State = append(o.State, src) })
	c := b.open(alice)
	c.ok(edit("running", top(`<low>1</low>`)))
	const ns = ` xmlns="urn:test:behaviour"`
	entry := func(n string) string { return `<seen><name>` + n + `</name><times>3</times></seen>` }
	for _, x := range []struct{ filter, want, asked string }{
		{subtree(`<top` + ns + `/>`), `<top` + ns + `><low>1</low>` + entry("a") + entry("b") + entry("c") + `</top>`, "all"},
		{subtree(`<top` + ns + `><seen><name>b</name></seen></top>`), `<top` + ns + `>` + entry("b") + `</top>`, "b"},
		{subtree(`<top` + ns + `><low/></top>`), `<top` + ns + `><low>1</low></top>`, "nothing"},
		{`<filter type="xpath" select="/b:top/b:seen[b:name='c']" xmlns:b="urn:test:behaviour"/>`, `<top` + ns + `>` + entry("c") + `</top>`, "c"},
		{`<filter type="xpath" select="/b:top/b:seen[b:times=3]/b:name" xmlns:b="urn:test:behaviour"/>`, `<top` + ns + `><seen><name>a</name></seen><seen><name>b</name></seen><seen><name>c</name></seen></top>`, "all"},
		{`<filter type="xpath" select="/b:top/b:low" xmlns:b="urn:test:behaviour"/>`, `<top` + ns + `><low>1</low></top>`, "nothing"},
	} {
		src.asked = nil
		if d := c.data(`<get>` + x.filter + `</get>`); d != x.want {
			t.Errorf("%s\ngot  %s\nwant %s", x.filter, d, x.want)
		}
		if got := strings.Join(src.asked, ","); got != x.asked {
			t.Errorf("%s: asked for %q, want %q", x.filter, got, x.asked)
		}
	}
	src.asked = nil
	if d := c.data(getRunning("")); d != `<top`+ns+`><low>1</low></top>` || len(src.asked) != 0 {
		t.Error(d, src.asked)
	}
	src.err = &data.Error{Tag: "operation-failed", Msg: "the data plane is away"}
	if r := c.fails(`<get/>`, "application/operation-failed"); r.Errors[0].Message != "the data plane is away" {
		t.Error(r.text)
	}
	src.err = errors.New("key 0123456789abcdef is bad")
	if r := c.fails(`<get/>`, "application/operation-failed"); strings.Contains(r.text, "0123") {
		t.Error("an internal error reached the client: ", r.text)
	}
}

// A source that takes too long fails the get, and the session goes on.
func TestStateTimeout(t *testing.T) {
	slow := &slowState{root: schema(t).Root, entered: make(chan bool, 1), leave: make(chan bool)}
	b := newBed(t, func(o *Options) {
		o.State = append(o.State, slow)
		o.Limits.StateTimeout = 20 * time.Millisecond
	})
	c := b.open(alice)
	c.fails(`<get><filter><top xmlns="urn:test:behaviour"/></filter></get>`, "application/operation-failed")
	c.ok(`<discard-changes/>`)
}

// RFC 6022: sessions, locks, statistics, schemas and their text.
func TestMonitoring(t *testing.T) {
	b := newBed(t, nil)
	c, o := b.open(alice), b.open(bob)
	o.ok(lockOp("candidate"))
	o.rpc(`<bogus/>`)
	o.message(`<rpc/>`)
	get := func(what string) string {
		t.Helper()
		return c.data(`<get>` + subtree(`<netconf-state xmlns="`+nsMonitoring+`">`+what+`</netconf-state>`) + `</get>`)
	}
	d := get(`<sessions><session><session-id>` + o.id + `</session-id></session></sessions>`)
	for _, want := range []string{"<username>bob</username>", "<source-host>2001:db8::1</source-host>", "<in-rpcs>2</in-rpcs><in-bad-rpcs>1</in-bad-rpcs><out-rpc-errors>2</out-rpc-errors>", ":netconf-ssh</transport>", "<login-time>20"} {
		if !strings.Contains(d, want) {
			t.Errorf("%s lacks %s", d, want)
		}
	}
	if strings.Contains(d, "alice") {
		t.Error(d)
	}
	d = get(`<datastores/>`)
	if !strings.Contains(d, "<datastore><name>candidate</name><locks><global-lock><locked-by-session>"+o.id+"</locked-by-session><locked-time>20") || strings.Count(d, "<locks>") != 1 || strings.Count(d, "<datastore>") != 3 {
		t.Error(d)
	}
	if d = get(`<capabilities/>`); strings.Count(d, "<capability>") != len(c.caps) {
		t.Error(d)
	}
	if d = get(`<statistics><in-sessions/></statistics>`); !strings.Contains(d, "<in-sessions>2</in-sessions>") {
		t.Error(d)
	}

	// Every schema in the list can be fetched, and is the module's file.
	var schemas struct {
		Schema []struct {
			ID      string `xml:"identifier"`
			Version string `xml:"version"`
			NS      string `xml:"namespace"`
		} `xml:"schemas>schema"`
	}
	unmarshal(t, get(`<schemas/>`), &schemas)
	if len(schemas.Schema) < 20 {
		t.Fatal(schemas)
	}
	files := map[string]string{}
	for _, dir := range []string{".", "ietf", "deviations"} {
		es, err := modules.FS.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if !e.IsDir() {
				text, _ := modules.FS.ReadFile(filepath.Join(dir, e.Name()))
				files[strings.TrimSuffix(e.Name(), ".yang")] = string(text)
			}
		}
	}
	for _, s := range schemas.Schema {
		want := files[s.ID+"@"+s.Version]
		if s.ID == "behaviour" {
			continue
		}
		r := c.rpc(`<get-schema xmlns="` + nsMonitoring + `"><identifier>` + s.ID + `</identifier><version>` + s.Version + `</version><format>yang</format></get-schema>`)
		if len(r.Data) != 1 || r.Data[0].XMLName.Space != nsMonitoring || want == "" || r.Data[0].Text != want {
			t.Errorf("%s@%s: %d bytes, want %d", s.ID, s.Version, len(r.text), len(want))
		}
	}
	schemaOp := func(s string) string { return `<get-schema xmlns="` + nsMonitoring + `">` + s + `</get-schema>` }
	c.fails(schemaOp(`<identifier>bogus</identifier>`), "protocol/invalid-value {bad-element=identifier}")
	c.fails(schemaOp(`<identifier>ietf-ip</identifier><version>1999-01-01</version>`), "protocol/invalid-value {bad-element=identifier}")
	c.fails(schemaOp(`<identifier>ietf-ip</identifier><format>xsd</format>`), "protocol/invalid-value {bad-element=format}")
	if r := c.rpc(schemaOp(`<identifier>ietf-ip</identifier>`)); len(r.Data) != 1 {
		t.Error(r.text)
	}
}

// The state is valid by its own modules: yanglint reads it.
func TestStateIsValid(t *testing.T) {
	lint, err := exec.LookPath("yanglint")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("yanglint is not there")
	}
	b := newBed(t, nil)
	c := b.open(alice)
	c.ok(lockOp("running"))
	d := c.data(`<get>` + subtree(`<netconf-state xmlns="`+nsMonitoring+`"/><yang-library xmlns="urn:ietf:params:xml:ns:yang:ietf-yang-library"/>`) + `</get>`)
	file := filepath.Join(t.TempDir(), "state.xml")
	if err := os.WriteFile(file, []byte(`<data xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">`+d+`</data>`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(d), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(lint, "-p", "../../yang", "-p", "../../yang/ietf", "-i", "-t", "get",
		"../../yang/ietf/ietf-netconf-monitoring@2010-10-04.yang", "../../yang/ietf/ietf-yang-library@2019-01-04.yang", "../../yang/ietf/ietf-datastores@2018-02-14.yang", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// An rpc of another module: its handler gets checked parameters and its output
// is written by the schema.
func TestForeignRPC(t *testing.T) {
	b := newBed(t, nil)
	s := schema(t)
	add := func(_ context.Context, by txn.Session, in *codec.Input) (*data.Container, error) {
		if by.User != "bob" || by.ID == 0 {
			t.Error(by)
		}
		n := in.Op.Input()
		x, _, _ := in.Params.Value(n.ChildByName("x"))
		y, _, _ := in.Params.Value(n.ChildByName("y"))
		if x.Text == "13" {
			return nil, &data.Error{Tag: "operation-failed", AppTag: "unlucky", Msg: "not that one"}
		}
		if x.Text == "0" {
			return nil, nil
		}
		e := data.Begin(data.NewAt(in.Op.Output()))
		if err := e.Set(in.Op.Output().ChildByName("sum"), x.Text+y.Text); err != nil {
			return nil, err
		}
		return e.Done(), nil
	}
	if err := b.srv.HandleRPC("behaviour", "add", add); err != nil {
		t.Fatal(err)
	}
	for _, x := range [][2]string{{"behaviour", "add"}, {"behaviour", "bogus"}, {"bogus", "add"}, {"ietf-netconf", "get"}} {
		if b.srv.HandleRPC(x[0], x[1], add) == nil {
			t.Error(x, "is accepted")
		}
	}
	_ = s
	c := b.open(bob)
	op := func(s string) string { return `<add xmlns="urn:test:behaviour">` + s + `</add>` }
	r := c.rpc(op(`<x>4</x>`))
	if !strings.Contains(r.text, `<sum xmlns="urn:test:behaviour">41</sum></rpc-reply>`) {
		t.Error(r.text)
	}
	c.ok(op(`<x>0</x>`))
	c.fails(op(`<x>13</x>`), "application/operation-failed unlucky")
	c.fails(op(``), "protocol/missing-element /nc:rpc/behaviour:add {bad-element=x}")
	c.fails(op(`<x>a</x>`), "protocol/invalid-value /nc:rpc/behaviour:add/behaviour:x")
	c.fails(op(`<x>1</x><z/>`), "protocol/unknown-element /nc:rpc/behaviour:add {bad-element=z}")
}
