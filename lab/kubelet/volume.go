package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// refreshTime is how often files of ConfigMaps, Secrets and tokens are looked
// at again. A token lives for ten minutes at least.
const refreshTime = time.Minute

// volumes makes the volumes of a pod below root, or makes them as they are now.
// It returns where each is on the machine.
func (o objects) volumes(ctx context.Context, pod *corev1.Pod, root string, tokens *tokens) (map[string]string, error) {
	out := map[string]string{}
	for _, v := range pod.Spec.Volumes {
		path, err := o.volume(ctx, pod, &v, filepath.Join(root, v.Name), tokens)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		out[v.Name] = path
	}
	return out, nil
}

func (o objects) volume(ctx context.Context, pod *corev1.Pod, v *corev1.Volume, dir string, tokens *tokens) (string, error) {
	if v.HostPath != nil {
		kind := corev1.HostPathUnset
		if v.HostPath.Type != nil {
			kind = *v.HostPath.Type
		}
		if kind == corev1.HostPathDirectoryOrCreate {
			return v.HostPath.Path, os.MkdirAll(v.HostPath.Path, 0o755)
		}
		_, err := os.Stat(v.HostPath.Path)
		return v.HostPath.Path, err
	}
	if v.EmptyDir != nil {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return "", err
		}
		return dir, os.Chmod(dir, 0o777)
	}
	files, err := o.files(ctx, pod, v, tokens)
	if err != nil {
		return "", err
	}
	return dir, writeVolume(dir, files)
}

// files returns the files of a volume that has its content from the API.
func (o objects) files(ctx context.Context, pod *corev1.Pod, v *corev1.Volume, tokens *tokens) (map[string]file, error) {
	out := map[string]file{}
	switch {
	case v.ConfigMap != nil:
		data, err := o.configMap(ctx, pod.Namespace, v.ConfigMap.Name, v.ConfigMap.Optional)
		if err != nil {
			return nil, err
		}
		return out, project(out, data, v.ConfigMap.Items, v.ConfigMap.DefaultMode, v.ConfigMap.Optional)
	case v.Secret != nil:
		data, err := o.secret(ctx, pod.Namespace, v.Secret.SecretName, v.Secret.Optional)
		if err != nil {
			return nil, err
		}
		return out, project(out, data, v.Secret.Items, v.Secret.DefaultMode, v.Secret.Optional)
	case v.DownwardAPI != nil:
		return out, downward(out, pod, v.DownwardAPI.Items, v.DownwardAPI.DefaultMode)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if err := o.projection(ctx, out, pod, &s, v.Projected.DefaultMode, tokens); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, errors.New("is of a kind that this node does not know (configMap, secret, downwardAPI, projected, emptyDir, hostPath)")
}

func (o objects) projection(ctx context.Context, out map[string]file, pod *corev1.Pod, s *corev1.VolumeProjection, mode *int32, tokens *tokens) error {
	switch {
	case s.ServiceAccountToken != nil:
		token, err := tokens.token(ctx, o, pod, s.ServiceAccountToken)
		if err != nil {
			return fmt.Errorf("service account token: %w", err)
		}
		out[s.ServiceAccountToken.Path] = file{[]byte(token), modeOf(mode, nil)}
		return nil
	case s.ConfigMap != nil:
		data, err := o.configMap(ctx, pod.Namespace, s.ConfigMap.Name, s.ConfigMap.Optional)
		if err != nil {
			return err
		}
		return project(out, data, s.ConfigMap.Items, mode, s.ConfigMap.Optional)
	case s.Secret != nil:
		data, err := o.secret(ctx, pod.Namespace, s.Secret.Name, s.Secret.Optional)
		if err != nil {
			return err
		}
		return project(out, data, s.Secret.Items, mode, s.Secret.Optional)
	case s.DownwardAPI != nil:
		return downward(out, pod, s.DownwardAPI.Items, mode)
	}
	return errors.New("projected: source: is of a kind that this node does not know (serviceAccountToken, configMap, secret, downwardAPI)")
}

// file is one file of a volume.
type file struct {
	data []byte
	mode fs.FileMode
}

func modeOf(all, one *int32) fs.FileMode {
	for _, m := range []*int32{one, all} {
		if m != nil {
			return fs.FileMode(*m).Perm()
		}
	}
	return 0o644
}

// project adds the entries that items name, or all of them.
func project(out map[string]file, data map[string][]byte, items []corev1.KeyToPath, mode *int32, optional *bool) error {
	if items == nil {
		for k, v := range data {
			out[k] = file{v, modeOf(mode, nil)}
		}
		return nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok && optional != nil && *optional {
			continue
		}
		if !ok {
			return fmt.Errorf("items: key %s: is not there (%s)", item.Key, strings.Join(slices.Sorted(maps.Keys(data)), ", "))
		}
		out[item.Path] = file{v, modeOf(mode, item.Mode)}
	}
	return nil
}

func downward(out map[string]file, pod *corev1.Pod, items []corev1.DownwardAPIVolumeFile, mode *int32) error {
	for _, item := range items {
		if item.FieldRef == nil {
			value, err := resourceField(pod, &pod.Spec.Containers[0], item.ResourceFieldRef)
			if err != nil {
				return err
			}
			out[item.Path] = file{[]byte(value), modeOf(mode, item.Mode)}
			continue
		}
		value, err := field(pod, item.FieldRef.FieldPath)
		if err != nil {
			return err
		}
		out[item.Path] = file{[]byte(value), modeOf(mode, item.Mode)}
	}
	return nil
}

// currentLink is the name by which a volume's files are reached: one rename
// changes all of them at once. Source: kubernetes.io/docs/concepts/storage/volumes.
const currentLink = "..data"

// writeVolume makes dir hold files and nothing else, in one step for readers.
func writeVolume(dir string, files map[string]file) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name := range files {
		if !filepath.IsLocal(name) || strings.HasPrefix(name, "..") {
			return fmt.Errorf("path %q: is not inside the volume", name)
		}
	}
	old, _ := os.Readlink(filepath.Join(dir, currentLink))
	if old != "" && sameFiles(filepath.Join(dir, old), files) {
		return nil
	}
	next, err := os.MkdirTemp(dir, "..")
	if err != nil {
		return err
	}
	if err := os.Chmod(next, 0o755); err != nil {
		return err
	}
	for name, f := range files {
		path := filepath.Join(next, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.data, f.mode); err != nil {
			return err
		}
	}
	link := filepath.Join(dir, "..next")
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Base(next), link); err != nil {
		return err
	}
	if err := os.Rename(link, filepath.Join(dir, currentLink)); err != nil {
		return err
	}
	return sweepVolume(dir, filepath.Base(next), files)
}

// sweepVolume makes the links to files and removes what is of none.
func sweepVolume(dir, current string, files map[string]file) error {
	top := map[string]bool{current: true, currentLink: true}
	for name := range files {
		first, _, _ := strings.Cut(filepath.ToSlash(name), "/")
		if top[first] {
			continue
		}
		top[first] = true
		err := os.Symlink(filepath.Join(currentLink, first), filepath.Join(dir, first))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !top[e.Name()] {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// sameFiles says whether dir holds exactly files.
func sameFiles(dir string, files map[string]file) bool {
	found := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, ok := files[name]
		have, err := os.ReadFile(path)
		if err != nil || !ok || !bytes.Equal(have, want.data) {
			return fs.ErrInvalid
		}
		found++
		return nil
	})
	return err == nil && found == len(files)
}

// tokens keeps the service account tokens of a pod until they are to be
// renewed.
type tokens struct {
	have map[string]token // by audience and lifetime
}

type token struct {
	text  string
	renew time.Time
}

// token returns a token that is good for a while yet.
func (t *tokens) token(ctx context.Context, o objects, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (string, error) {
	life := int64(3600)
	if p.ExpirationSeconds != nil {
		life = *p.ExpirationSeconds
	}
	key := fmt.Sprintf("%s %d", p.Audience, life)
	if have, ok := t.have[key]; ok && time.Now().Before(have.renew) {
		return have.text, nil
	}
	request := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{
		ExpirationSeconds: &life,
		BoundObjectRef:    &authv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if p.Audience != "" {
		request.Spec.Audiences = []string{p.Audience}
	}
	made, err := o.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	left := time.Until(made.Status.ExpirationTimestamp.Time)
	if t.have == nil {
		t.have = map[string]token{}
	}
	t.have[key] = token{made.Status.Token, time.Now().Add(left * 8 / 10)}
	return made.Status.Token, nil
}
