package mgmt

import (
	"context"
	"errors"
	"slices"
	"testing"

	"vrouter/fastpath"
	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/enginetest"
	"vrouter/mgmt/internal/schema"
)

// refusing refuses each operation as one that the SA's offload forbids.
type refusing struct{ *enginetest.Engine }

func (refusing) Operate(context.Context, *fastpath.Operation) error {
	return &fastpath.Refusal{Feature: "sa", Object: "out", Field: "Offload", Reason: "it requires mode crypto"}
}

// TestOperate: the rpcs of vrouter-sal reach the data plane as they are meant, and what
// it refuses comes back with the path of what is at fault.
func TestOperate(t *testing.T) {
	s, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	engine := enginetest.New()
	bindings, err := features(s, engine, nil, rules(t, s))
	if err != nil {
		t.Fatal(err)
	}
	call := func(e fastpath.Engine, name string, what fastpath.Operating, body string) error {
		t.Helper()
		lx, err := codec.NewLexer([]byte("<"+name+` xmlns="urn:vrouter:yang:vrouter-sal">`+body+"</"+name+">"), s.ModuleByNS)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lx.Next(); err != nil {
			t.Fatal(err)
		}
		in, err := codec.ReadInput(s, lx)
		if err != nil {
			return err
		}
		return operator{e, bindings}.do(context.Background(), name, what, in)
	}
	wants := func(err error, tag, path string) {
		t.Helper()
		var e *data.Error
		if !errors.As(err, &e) || e.Tag != tag || e.Path != path {
			t.Errorf("%#v, want %s at %s", err, tag, path)
		}
	}
	for _, c := range []struct {
		name, body string
		op         fastpath.Operation
	}{
		{"drain-engine", "<engine>card</engine>", fastpath.Operation{What: fastpath.DrainEngine, Engine: "card"}},
		{"undrain-engine", "<engine>card</engine>", fastpath.Operation{What: fastpath.UndrainEngine, Engine: "card"}},
		{"migrate-sa", "<ipsec-sa-name>out</ipsec-sa-name><engine>card</engine>", fastpath.Operation{What: fastpath.MigrateSA, Engine: "card", SA: "out"}},
	} {
		before := len(engine.Operations())
		if err := call(engine, c.name, c.op.What, c.body); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if l := engine.Operations()[before:]; !slices.Equal(l, []fastpath.Operation{c.op}) {
			t.Errorf("%s came as %+v", c.name, l)
		}
		if err := call(engine, c.name, c.op.What, ""); err == nil {
			t.Errorf("%s without parameters was taken", c.name)
		}
	}
	wants(call(engine, "drain-engine", fastpath.DrainEngine, "<engine>none</engine>"), "invalid-value", "/vrouter-sal:drain-engine/engine")
	wants(call(engine, "migrate-sa", fastpath.MigrateSA, "<ipsec-sa-name>none</ipsec-sa-name><engine>card</engine>"), "invalid-value", "/vrouter-sal:migrate-sa/ipsec-sa-name")
	wants(call(refusing{engine}, "migrate-sa", fastpath.MigrateSA, "<ipsec-sa-name>out</ipsec-sa-name><engine>card</engine>"), "operation-failed",
		"/ietf-i2nsf-ikeless:ipsec-ikeless/sad/sad-entry[name='out']/vrouter-sal:offload/mode")
	wants(call(noEngine{}, "drain-engine", fastpath.DrainEngine, "<engine>card</engine>"), "operation-failed", "")
}
