//! Histories in which a simulation found a fault of the product, as short as it could make them.

use observer_sim::op::Verb::{
    Chdir, EndThread, Exec, Exit, Fork, ForkForParent, ForkSharesFs, Make, Pass, Read, ReadAlone, RefuseNext,
    Remove, Rename, Settle, Setuid, SkipNext, StartHelper, StartThread, Terminate, Turn, UnshareMounts, Wait,
    WaitLong,
};
use observer_sim::op::{Op, Verb};
use observer_sim::play::play;

#[track_caller]
fn assert_holds(history: &[(Verb, [u32; 4])]) {
    let ops: Vec<Op> = history.iter().map(|&(verb, by)| Op { verb, by }).collect();
    assert_eq!(play(&ops).err(), None);
}

/// The record of an exec has no path of the cgroup, and what a pass read counted as drift.
#[test]
fn a_user_mode_helper_whose_cgroup_a_pass_reads_is_no_drift() {
    assert_holds(&[
        (Fork, [2443300275, 4024441322, 5620832, 254840147]),
        (StartHelper, [2889446317, 3493053496, 2406192503, 278238752]),
        (Exit, [480575693, 3267760360, 3304264125, 1781331899]),
        (Exec, [512672945, 2572099412, 3829733397, 2688979451]),
        (Settle, [2485782435, 91703326, 1861213842, 439813368]),
    ]);
}

/// A hint that came while a pass read was forgotten at its end.
#[test]
fn a_mount_namespace_that_is_left_while_a_pass_reads_is_no_drift() {
    assert_holds(&[
        (Fork, [1820311174, 4054336990, 2500016317, 3910764914]),
        (Fork, [164698060, 1418333803, 2780376564, 314552479]),
        (Fork, [1634213746, 3236309706, 4103588009, 2807315298]),
        (Fork, [2678202279, 867451033, 74719252, 986062061]),
        (RefuseNext, [1449772338, 3687813940, 2070253644, 560510624]),
        (Setuid, [4293197222, 2654568184, 2375765944, 1956835699]),
        (WaitLong, [2098847247, 2462483227, 3367746223, 2001138225]),
        (Fork, [2695890557, 3295848593, 3596028378, 2065995309]),
        (Fork, [3897786745, 1210233466, 210109567, 1207610752]),
        (Read, [1374048530, 3857022370, 3927351912, 697552100]),
        (Fork, [4050222108, 55183850, 4099880709, 1340961601]),
        (Read, [177786741, 1434572480, 523408660, 2402850573]),
        (UnshareMounts, [2758081274, 1613042115, 763876775, 1300929892]),
        (Settle, [1014212544, 3098545090, 1857277909, 2762672396]),
    ]);
}

/// The child took over a path that its creator had before the rename.
#[test]
fn a_child_that_is_born_while_a_pass_reads_renamed_paths_has_its_path() {
    assert_holds(&[
        (Make, [3088436139, 2775217291, 1606092590, 119849593]),
        (Chdir, [256703061, 2085575491, 3781787797, 3797454523]),
        (Fork, [3671414552, 3060754147, 983382156, 370290033]),
        (Rename, [2537974043, 2858108368, 1059512034, 2124355799]),
        (ForkSharesFs, [1594114246, 2087256437, 3558464453, 2553439632]),
        (Wait, [3237384715, 1415244720, 1288142178, 728719457]),
        (Fork, [1936502013, 1268264870, 2391172111, 3438790661]),
        (Read, [121278740, 1553111423, 2056367703, 805442933]),
        (Exec, [3363493879, 952735632, 960655713, 3367929499]),
        (ReadAlone, [1327594334, 2350327091, 1225442136, 3913855543]),
    ]);
}

/// A pass that healed the loss of its exit record took it for one that lives.
#[test]
fn a_process_that_is_about_to_end_while_a_gap_is_healed_is_not_held_for_good() {
    assert_holds(&[
        (Fork, [2424174773, 310580899, 2621876749, 1148566708]),
        (Fork, [464650833, 836020335, 276535136, 1280193771]),
        (Fork, [3239403883, 1255470915, 3000196173, 1589035781]),
        (SkipNext, [2922808557, 1671222240, 2760802531, 13776941]),
        (Exit, [2131062000, 3225297878, 1335431612, 2053820211]),
        (ReadAlone, [3224725953, 2457443623, 3708871794, 2522214053]),
        (Turn, [3038050975, 3435882953, 4029334011, 2979280805]),
        (ReadAlone, [3147749292, 2401294237, 3080138335, 185463492]),
    ]);
}

/// The count of skipped programs was read later than drift was counted.
#[test]
fn what_a_skipped_program_did_not_report_is_a_loss_and_no_drift() {
    assert_holds(&[
        (Wait, [235491504, 1946709285, 2792256780, 316599636]),
        (Fork, [809539355, 3655693622, 475213276, 1162500256]),
        (Fork, [1898211225, 2347305845, 2546102158, 1924880294]),
        (Fork, [3399887661, 598896438, 4080496849, 3872773320]),
        (Fork, [2578817463, 1602057803, 2216033246, 2578563939]),
        (Fork, [785325461, 3836001850, 1015837211, 999381233]),
        (SkipNext, [263524201, 2704960626, 950513553, 1502730362]),
        (Exec, [1247091406, 340734020, 1527833811, 3892808466]),
        (Exit, [1450304770, 3969762382, 1139722713, 2273191322]),
        (WaitLong, [1566722888, 421925788, 3382367462, 3375427626]),
        (Wait, [835438514, 3694906921, 929513004, 86693237]),
    ]);
}

/// The record of an exec, which has no path, hid the one that the pass had read before.
#[test]
fn a_process_that_executes_while_a_pass_reads_its_deleted_directory_has_it_deleted() {
    assert_holds(&[
        (Make, [2931852259, 1305790332, 1828724704, 540302732]),
        (Fork, [4095046188, 4120845272, 713107963, 595216579]),
        (Fork, [977288390, 3988549515, 925567126, 3811278327]),
        (ForkForParent, [1756087373, 2932828395, 1670184732, 3487063454]),
        (Make, [2971343664, 3575186697, 812074654, 3927357121]),
        (Fork, [80352684, 2508729386, 2361648546, 2705471802]),
        (Fork, [3381680621, 213328190, 3453452395, 2493543520]),
        (Make, [1254553431, 1980131587, 958524112, 1008814492]),
        (ForkForParent, [42750676, 2954784720, 4390866, 232141345]),
        (Fork, [2080028804, 1620701265, 4290929935, 1844794098]),
        (Fork, [1379235723, 2276834268, 2714531525, 3462060353]),
        (Fork, [1529736105, 561772698, 1161945872, 221686169]),
        (Fork, [263107420, 3035578171, 860079621, 2741964577]),
        (Chdir, [286193558, 1197181854, 3205066084, 4207724881]),
        (Fork, [2084239430, 3966788466, 48230689, 294005152]),
        (Fork, [97992217, 2912302171, 2672221811, 2452986531]),
        (Fork, [2142472249, 2478808219, 714973007, 3317586345]),
        (Fork, [2383887556, 2680203551, 2281635309, 2104902171]),
        (Fork, [237324124, 2393838095, 3447056558, 3398072129]),
        (Remove, [2500375424, 2355203562, 1989932408, 3393566397]),
        (Pass, [258985189, 3041990880, 465158536, 3109965393]),
        (Read, [369276223, 2361286040, 635055239, 2622034198]),
        (Exec, [1055708281, 3437307924, 2444611304, 573352517]),
        (ReadAlone, [1833481779, 1454821225, 496526238, 2929070729]),
    ]);
}

/// The leader of bash ends, its directory is renamed, and its other thread goes on. A pass reads the directory of a leader alone.
const WITHOUT_LEADER: [(Verb, [u32; 4]); 5] = [
    (Chdir, [1, 0, 3, 0]),
    (StartThread, [1, 0, 0, 0]),
    (EndThread, [1, 0, 0, 0]),
    (Rename, [3, 1, 4, 0]),
    (Settle, [0; 4]),
];

/// The child took over the path that the leader had before the rename.
#[test]
fn a_child_of_a_thread_whose_leader_is_gone_has_the_path_after_the_rename() {
    assert_holds(&[&WITHOUT_LEADER[..], &[(Fork, [1, 0, 0, 0]), (ReadAlone, [0; 4])]].concat());
}

/// So did the thread that became the leader.
#[test]
fn a_thread_that_becomes_the_leader_by_an_exec_has_the_path_after_the_rename() {
    assert_holds(&[&WITHOUT_LEADER[..], &[(Exec, [1, 0, 2, 0]), (ReadAlone, [0; 4])]].concat());
}

/// The record of the second SIGTERM is left out, so only the first one is known, which the process handled.
#[test]
fn the_sender_of_a_signal_that_a_process_handled_did_not_end_it() {
    assert_holds(&[
        (Fork, [0; 4]),
        (Terminate, [0, 1, 1, 0]),
        (RefuseNext, [0; 4]),
        (Terminate, [1, 1, 0, 0]),
        (Turn, [0; 4]),
    ]);
}

/// A question read it after the pass that was to heal the loss of its exit record, and it counted as one that lives.
#[test]
fn a_process_that_is_about_to_end_is_not_held_because_a_question_reads_it() {
    assert_holds(&[
        (Fork, [1, 0, 0, 0]),
        (Fork, [1, 0, 0, 0]),
        (SkipNext, [0; 4]),
        (Exit, [3, 0, 0, 0]),
        (ReadAlone, [0; 4]),
        (Turn, [0; 4]),
        (Read, [15, 1, 0, 0]),
        (ReadAlone, [u32::MAX; 4]),
        (Exit, [2, 0, 0, 0]),
        (Turn, [0; 4]),
        (ReadAlone, [0; 4]),
    ]);
}
