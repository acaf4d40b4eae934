//! A workload's life: its pods, one after the other, each with the steps of the script.

use std::pin::Pin;

use super::family::Family;
use super::ids::Ids;
use super::kinds::Resource;
use super::kubelet::{Kubelet, World};
use super::objects::{ContainerObject, PodObject, RunState, Stage, is_init};
use super::recorder::Recorder;
use super::script::{Script, Step};

/// Lives a script for ever. Dropping the future stops it at any point; what was written stays true.
pub(super) async fn live(world: World, script: Script, seed: u64) {
    let mut ids = Ids::new(seed);
    let mut recorder = Recorder::new(world.store.clone(), world.clock);
    let mut family = Family::new(&world.store, &script, &mut ids, world.clock.now());
    world.clock.sleep_ms(script.begins_ms).await;
    loop {
        let pod = pod(&script, &mut family, &mut ids, &world);
        let mut kubelet = Kubelet {
            world: &world,
            script: &script,
            workload: family.workload(),
            ids: &mut ids,
            recorder: &mut recorder,
            pod,
        };
        kubelet.take(script.life).await;
        // What is over is shown for a while, then collected.
        world.clock.sleep_ms(script.pause_ms).await;
        kubelet.remove();
        recorder.forget();
        family.bury();
    }
}

impl Kubelet<'_> {
    /// Takes steps.
    fn take<'b>(&'b mut self, steps: &'static [Step]) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>> {
        Box::pin(async move {
            for step in steps {
                match *step {
                    Step::Start => self.start().await,
                    Step::Run(ms) => self.sleep_ms(ms).await,
                    Step::Dies(name, death) => self.dies(name, death).await,
                    Step::Repeat(0, steps) => loop {
                        self.take(steps).await;
                    },
                    Step::Repeat(times, steps) => {
                        for _ in 0..times {
                            self.take(steps).await;
                        }
                    }
                    Step::Over(over) => self.over(over).await,
                    Step::MirrorDeleted => self.mirror_deleted().await,
                }
            }
        })
    }

    async fn mirror_deleted(&mut self) {
        self.world.store.delete(Resource::Pods, self.pod.namespace, &self.pod.name);
        self.sleep_ms(1_000).await;
        self.pod.uid = self.ids.uid();
        self.pod.created = self.now();
        self.write();
    }
}

fn pod(script: &Script, family: &mut Family, ids: &mut Ids, world: &World) -> PodObject {
    let now = world.clock.seconds();
    let birth = family.birth(ids, now);
    let waits = script.pod.containers.iter().any(|c| is_init(c.kind));
    let why = if waits { "PodInitializing" } else { "ContainerCreating" };
    let containers = script.pod.containers.iter().map(|spec| ContainerObject {
        spec: *spec,
        image: format!("registry.example.com/{}/{}:1.4", script.namespace, script.name),
        memory: spec.memory.map(str::to_owned),
        id: None,
        restarts: 0,
        state: RunState::Waiting(why, String::new()),
        last: None,
    });
    let mut finalizers = birth.finalizers;
    finalizers.extend(script.pod.finalizer);
    PodObject {
        namespace: script.namespace,
        name: birth.name,
        generate_name: birth.generate_name,
        uid: ids.uid(),
        labels: birth.labels,
        annotations: birth.annotations,
        owner: birth.owner,
        finalizers,
        created: now,
        deletion: None,
        generation: 1,
        node: script.node,
        spec: script.pod,
        stage: Stage::Created,
        phase: "Pending",
        reason: "",
        message: String::new(),
        disruption: None,
        conditions: Default::default(),
        containers: containers.collect(),
    }
}
