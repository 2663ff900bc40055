package kube

import (
	"context"
	"fmt"
	"slices"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/v1alpha1"
)

// Install makes a cluster know the types of package v1alpha1, and waits until it
// does. Definitions of an older Weft become this one's. The scheme is one of
// Scheme.
func Install(ctx context.Context, cfg *rest.Config, scheme *runtime.Scheme) error {
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	crds, err := v1alpha1.CRDs()
	if err != nil {
		return fmt.Errorf("definitions: %w", err)
	}
	for _, crd := range crds {
		if err := install(ctx, c, crd); err != nil {
			return fmt.Errorf("definition %s: %w", crd.Name, err)
		}
	}
	for _, crd := range crds {
		if err := established(ctx, c, crd.Name); err != nil {
			return fmt.Errorf("definition %s: %w", crd.Name, err)
		}
	}
	return nil
}

// install creates or updates one definition. Another process may do the same.
func install(ctx context.Context, c client.Client, want *apiextensionsv1.CustomResourceDefinition) error {
	for {
		var have apiextensionsv1.CustomResourceDefinition
		err := c.Get(ctx, client.ObjectKeyFromObject(want), &have)
		switch {
		case apierrors.IsNotFound(err):
			err = c.Create(ctx, want.DeepCopy())
		case err != nil:
			return err
		case same(&have, want):
			return nil
		default:
			have.Spec.Versions, have.Spec.Names, have.Spec.Scope = want.Spec.Versions, want.Spec.Names, want.Spec.Scope
			have.Annotations = want.Annotations
			err = c.Update(ctx, &have)
		}
		if err == nil || !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
}

// same reports whether a definition of the server says what is wanted. What the
// server adds by default is left out.
func same(have, want *apiextensionsv1.CustomResourceDefinition) bool {
	return equality.Semantic.DeepDerivative(want.Spec.Versions, have.Spec.Versions) && len(want.Spec.Versions) == len(have.Spec.Versions) &&
		equality.Semantic.DeepDerivative(want.Annotations, have.Annotations)
}

// established waits until the server serves a type.
func established(ctx context.Context, c client.Client, name string) error {
	for {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &crd); err != nil {
			return err
		}
		if slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
		}) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
