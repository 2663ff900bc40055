// Package writer is what every controller writes by: it makes intent all that
// an owner has, says what became of it in conditions and Events, and brings a
// request back when the answer may be another.
//
// A controller that uses it holds no queue of its own. What it builds depends
// on objects that exist and on the tree, so that it can be asked again at any
// time:
//
//	out, err := w.Write(ctx, owner, func(t *intent.Tree) ([]intent.Object, error) { … })
//	if err != nil {
//		return reconcile.Result{}, err
//	}
//	w.Tell(object, out)                           // an Event, if it is news
//	apimeta.SetStatusCondition(&conditions, out.Condition("NetworkReady", object.Generation))
//	return w.Await(request, out), nil             // back when it may be another
package writer
