//! Writable directories under an overlay: commands see their changes, the host does not.

use nono::{Options, OverlayMount, Sandbox, TierName};

use crate::common::{Scratch, in_tier, run, shell};

fn layers(scratch: &Scratch) -> OverlayMount {
    for name in ["w/sub", "layers/upper", "layers/work"] {
        std::fs::create_dir_all(scratch.path().join(name)).unwrap();
    }
    scratch.file("w/file", "before\n");
    scratch.file("w/sub/deep", "deep\n");
    let [target, upper, work] =
        ["w", "layers/upper", "layers/work"].map(|name| scratch.path().join(name));
    OverlayMount { target, upper, work }
}

#[test]
fn changes_go_to_the_upper_layer_and_the_directory_stays() {
    let support = nono::support();
    if !support.user_namespaces {
        return println!("SKIPPED: overlays: no user namespaces");
    }
    let scratch = Scratch::in_public();
    let mount = layers(&scratch);
    let capabilities =
        shell().allow_write(&mount.target).allow_exec(mount.target.join("sub")).deny("**/*.pem");
    let options = Options { mounts: vec![mount.clone()], ..in_tier(TierName::Namespaces) };
    let sandbox = Sandbox::create(&capabilities, &options).unwrap();
    let script = format!(
        "cd {}; echo after >file; echo new >made; rm sub/deep; cp /bin/true sub/tool && sub/tool && \
         echo ran; cat file; ls; echo x >key.pem; chmod 600 file; mkdir d; mv d e && echo moved; \
         mv sub sub2 2>/dev/null && echo renamed; echo x >.mcp.json; ls {} ",
        mount.target.display(),
        mount.upper.display(),
    );
    let (_, output) = run(&sandbox, &script);
    assert!(output.contains("ran\nafter\nfile\nmade\nsub\n"), "{output}");
    assert!(output.contains("cannot create key.pem: Permission denied"), "{output}");
    assert!(output.contains("cannot create .mcp.json: Permission denied"), "{output}");
    assert!(output.contains("moved\n"), "{output}");
    assert!(output.contains("ls: cannot open directory"), "{output}");
    assert!(output.contains("renamed\n"), "{output}");
    sandbox.close();
    let text = |name: &str| std::fs::read_to_string(scratch.path().join(name)).unwrap_or_default();
    assert_eq!((text("w/file").as_str(), text("w/sub/deep").as_str()), ("before\n", "deep\n"));
    assert_eq!(text("layers/upper/file"), "after\n");
    assert!(!scratch.path().join("w/made").exists());
    clean(&scratch);
}

/// Where the overlay was mounted without privilege, the supervisor moves what the kernel won't.
#[test]
fn directories_are_renamed_with_all_that_is_in_them() {
    if !nono::support().user_namespaces {
        return println!("SKIPPED: overlays: no user namespaces");
    }
    let scratch = Scratch::in_public();
    let mount = layers(&scratch);
    scratch.file("w/sub/inner/one/file", "below\n");
    scratch.file("w/full/file", "in the way\n");
    std::fs::create_dir(mount.target.join("empty")).unwrap();
    let deep = format!("w/deep{}", "/d".repeat(70));
    for depth in 0..70 {
        scratch.file(&format!("{}/f", &deep[..6 + 2 * depth]), "x");
    }
    let options = Options { mounts: vec![mount.clone()], ..in_tier(TierName::Namespaces) };
    let sandbox = Sandbox::create(&shell().allow_write(&mount.target), &options).unwrap();
    // What would take too many descriptors at once stays where it is, whole.
    let deep = format!(
        "cd {}; python3 -c \"import os; os.rename('deep', 'x')\" 2>&1 | grep -o 'Errno 18'; \
         cd x 2>/dev/null || cd deep; find . -type f | wc -l",
        mount.target.display()
    );
    let (_, output) = run(&sandbox, &deep);
    let refused = if nono::support().privileged_overlay { "" } else { "Errno 18\n" };
    assert_eq!(output, format!("{refused}70\n"));
    let script = format!(
        "cd {}; rm -r deep x 2>/dev/null; chmod 750 sub/inner; touch -d @1000000000 sub/inner sub; \
         list() {{ (cd $1; find . -printf '%P %y %m %T@ %s\n' | sort; cat inner/one/file); }}; \
         list sub >before; mv -T sub moved; list moved >after; cmp before after && echo same; \
         mv -T moved full 2>/dev/null || echo kept; mv -T moved empty && list empty | cmp - before && \
         echo replaced; mv empty/inner . && cat inner/one/file; mkdir a; mv inner a; mv a b; ls -A; ls b/inner",
        mount.target.display(),
    );
    let (_, output) = run(&sandbox, &script);
    let expected = "same\nkept\nreplaced\nbelow\nafter\nb\nbefore\nempty\nfile\nfull\none\n";
    assert_eq!(output, expected);
    sandbox.close();
    assert!(mount.target.join("sub/inner/one/file").exists());
    clean(&scratch);
}

/// The kernel leaves a directory that only root can enter (`work/work`, mode 000).
fn clean(scratch: &Scratch) {
    use std::os::unix::fs::PermissionsExt;
    let left = scratch.path().join("layers/work/work");
    let _ = std::fs::set_permissions(left, std::fs::Permissions::from_mode(0o700));
}

#[test]
fn layers_within_reach_and_other_tiers_are_refused() {
    let scratch = Scratch::in_public();
    let mount = layers(&scratch);
    let create = |capabilities: &nono::Capabilities, tier| {
        let options = Options { mounts: vec![mount.clone()], ..in_tier(tier) };
        Sandbox::create(capabilities, &options).map(drop).unwrap_err()
    };
    let within = shell().allow_write(scratch.path());
    let refused = create(&within, TierName::Namespaces);
    assert_eq!(refused.code(), "ERR_NONO_INVALID_CAPABILITIES", "{refused}");
    let refused = create(&shell(), TierName::Namespaces);
    assert_eq!(refused.code(), "ERR_NONO_INVALID_CAPABILITIES", "{refused}");
    let refused = create(&shell().allow_write(&mount.target), TierName::Flat);
    assert_eq!(refused.code(), "ERR_NONO_UNSUPPORTED_POLICY", "{refused}");
}
