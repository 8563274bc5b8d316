package flux

import (
	"errors"
	"fmt"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	automationv1 "github.com/fluxcd/image-automation-controller/api/v1"
	imagev1 "github.com/fluxcd/image-reflector-controller/api/v1"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	notificationv1 "github.com/fluxcd/notification-controller/api/v1"
	notificationv1beta3 "github.com/fluxcd/notification-controller/api/v1beta3"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// manager is the field manager of everything that is patched here: that of the flux CLI, since
// it is the same operator who asks.
const manager = client.FieldOwner("flux")

// answerBound is how long the API server may take for one answer. A connection of which nobody is left at the other end
// says nothing by itself; whoever waits then asks again.
const answerBound = time.Minute

// NewClient makes a client that knows Flux's kinds and Kubernetes's own. The API server isn't
// asked yet. An empty context means the kubeconfig's current one. Its errors never quote the
// kubeconfig.
func NewClient(kubeconfig []byte, context string) (client.Client, error) {
	// The parser's own errors may quote what they couldn't read, so they aren't passed on.
	parsed, err := clientcmd.Load(kubeconfig)
	if err != nil || len(parsed.Clusters) == 0 {
		return nil, errors.New("reading the kubeconfig: it is none; kubectl config view shows what one looks like")
	}
	if context == "" {
		context = parsed.CurrentContext
	}
	if _, found := parsed.Contexts[context]; !found {
		return nil, fmt.Errorf("reading the kubeconfig: it has no context %q; kubectl config get-contexts lists those of a file", context)
	}
	// client-go itself takes a user that isn't there for nobody.
	if user := parsed.Contexts[context].AuthInfo; user != "" && parsed.AuthInfos[user] == nil {
		return nil, fmt.Errorf("reading the kubeconfig: its context %q names a user that it lacks", context)
	}
	config, err := clientcmd.NewNonInteractiveClientConfig(*parsed, context, nil, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: its context %q names a cluster or a user that is incomplete", context)
	}
	config.QPS, config.Burst, config.Timeout = 100, 200, answerBound
	config.WarningHandler = rest.NoWarnings{}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("making a client from the kubeconfig: its context %q has a certificate, key or address that can't be used", context)
	}
	return c, nil
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, coordinationv1.AddToScheme, apiextensionsv1.AddToScheme,
		sourcev1.AddToScheme, kustomizev1.AddToScheme, helmv2.AddToScheme,
		notificationv1.AddToScheme, notificationv1beta3.AddToScheme,
		imagev1.AddToScheme, automationv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("registering the kinds of Kubernetes and Flux: %w", err)
		}
	}
	return scheme, nil
}
