package mgmt

import (
	"context"
	"errors"

	"vrouter/fastpath"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/netconf"
	"vrouter/mgmt/supervisor"
	"vrouter/mgmt/txn"
)

// operator carries out the rpcs of vrouter-sal, which are for the data plane: engines
// are drained, SAs go from one to another. Nothing of it is configuration, and none
// of it outlives the data plane's process.
type operator struct {
	engine   fastpath.Engine
	bindings []binding.Binding // that know where in the model an object is
}

const salModule = "vrouter-sal"

// serve has a NETCONF server answer the rpcs.
func (o operator) serve(s *netconf.Server) error {
	for name, what := range map[string]fastpath.Operating{"drain-engine": fastpath.DrainEngine, "undrain-engine": fastpath.UndrainEngine,
		"migrate-sa": fastpath.MigrateSA} {
		err := s.HandleRPC(salModule, name, func(ctx context.Context, _ txn.Session, in *codec.Input) (*data.Container, error) {
			return nil, o.do(ctx, name, what, in)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (o operator) do(ctx context.Context, name string, what fastpath.Operating, in *codec.Input) error {
	param := func(name string) string {
		if n := in.Op.Input().ChildByName(name); n != nil {
			v, _, _ := in.Params.Value(n)
			return v.Text
		}
		return ""
	}
	err := o.engine.Operate(ctx, &fastpath.Operation{What: what, Engine: param("engine"), SA: param("ipsec-sa-name")})
	var r *fastpath.Refusal
	switch {
	case err == nil:
		return nil
	case errors.Is(err, supervisor.ErrDown):
		return &data.Error{Tag: "operation-failed", Msg: err.Error()}
	case !errors.As(err, &r):
		return &data.Error{Tag: "operation-failed", Msg: "the data plane did not do it: " + err.Error()}
	case r.Field == "Name":
		// What was asked for is not there: the parameter that names it is at fault.
		leaf := map[string]string{"sa": "ipsec-sa-name", "engine": "engine"}[r.Feature]
		return &data.Error{Tag: "invalid-value", Path: "/" + salModule + ":" + name + "/" + leaf, Msg: r.Reason}
	}
	for _, b := range o.bindings {
		if path := b.Locate(nil, r); path != "" {
			return &data.Error{Tag: "operation-failed", AppTag: "data-plane-refused", Path: path, Msg: r.Reason}
		}
	}
	return &data.Error{Tag: "operation-failed", AppTag: "data-plane-refused", Msg: r.Error()}
}
