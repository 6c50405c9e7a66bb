package nacm

import (
	"errors"

	"vrouter/mgmt/data"
)

// Veil gives an error as the user may see it (RFC 8341 sections 3.2.5 and
// 3.4.3). What is about a node that the user may not read loses its keys and
// its words; that such a node is there already, or is not, is told only to who
// may create or delete it.
func (v *View) Veil(err error) error {
	if v.all || err == nil {
		return err
	}
	var many data.Errors
	var one *data.Error
	switch {
	case errors.As(err, &many):
		out := make(data.Errors, len(many))
		same := true
		for i, e := range many {
			out[i] = v.veil(e)
			same = same && out[i] == e
		}
		if same {
			return err
		}
		return out
	case errors.As(err, &one):
		if e := v.veil(one); e != one {
			return e
		}
	}
	return err
}

// asWritten are the tags that tell of what the client wrote, not of what there
// is.
var asWritten = map[string]bool{"invalid-value": true, "unknown-element": true, "unknown-attribute": true, "unknown-namespace": true,
	"bad-element": true, "bad-attribute": true, "missing-element": true, "missing-attribute": true}

func (v *View) veil(e *data.Error) *data.Error {
	if e.Path == "" || e.Tag == "access-denied" || v.closed {
		return v.veilInfo(e)
	}
	at, err := data.ParsePath(v.schema.Root, e.Path)
	if err != nil || v.MayRead(at) { // err: it is a path in the message
		return v.veilInfo(e)
	}
	switch a := map[string]Access{"data-exists": Create, "data-missing": Delete}[e.Tag]; {
	case e.AppTag != "" || a == 0:
	case v.table(a).permits(at):
		return v.veilInfo(e)
	default:
		return v.denied(a, at)
	}
	out := *e
	out.Path, out.Info = v.shown(at).String(), nil
	if e.AppTag != "" || !asWritten[e.Tag] {
		out.Msg = "a condition on data that may not be read does not hold"
	}
	return &out
}

// veilInfo leaves out of error-info the paths that the user may not read.
func (v *View) veilInfo(e *data.Error) *data.Error {
	for i, x := range e.Info {
		if x.Name != "non-unique" || v.seen(x.Value) {
			continue
		}
		out := *e
		out.Info = append([]data.Info(nil), e.Info[:i]...)
		for _, x := range e.Info[i+1:] {
			if x.Name != "non-unique" || v.seen(x.Value) {
				out.Info = append(out.Info, x)
			}
		}
		return &out
	}
	return e
}

func (v *View) seen(path string) bool {
	at, err := data.ParsePath(v.schema.Root, path)
	return err == nil && v.MayRead(at)
}
